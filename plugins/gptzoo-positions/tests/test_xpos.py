"""xPos compared with its closed form and x-transformers, and the range of its factors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import gptzoo

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 64, "d_model": 32, "n_layers": 1, "n_heads": 4}


def xpos_of(width: int = 8, **options: Any) -> Any:
    spec = gptzoo.load_model_spec({**SMALL, "positional": {"type": "xpos", **options}})
    return spec.positional.build(spec.dims, frozenset({width}))


def queries(length: int, width: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(2, 4, length, width, generator=torch.Generator().manual_seed(seed))


def scores(xpos: Any, q: Tensor, k: Tensor, positions: Tensor) -> Tensor:
    """Return the attention scores, (B, H, T, T)."""
    q, k = xpos.rotate(q, k, xpos.prepare(positions))
    return q @ k.mT


@pytest.mark.parametrize("options", [{}, {"scale_base": 20.0, "theta": 100.0}], ids=str)
def test_a_score_equals_the_formula_of_the_paper(options: dict[str, Any]) -> None:
    xpos = xpos_of(**options)
    q, k = queries(3), queries(3, seed=1)
    positions = (2, 30, 61)
    actual = scores(xpos, q, k, torch.tensor([positions]))
    for t, n in enumerate(positions):
        for s, m in enumerate(positions[: t + 1]):
            expected = 0.0
            for i in range(4):
                zeta = (i / 4 + 0.4) / 1.4
                angle = (n - m) * xpos.config.theta ** (-i / 4)
                a, b = (complex(x[1, 2, row, i], x[1, 2, row, i + 4]) for x, row in ((q, t), (k, s)))
                rotation = complex(math.cos(angle), math.sin(angle))
                expected += zeta ** ((n - m) / xpos.config.scale_base) * (a * rotation * b.conjugate()).real
            assert actual[1, 2, t, s].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_scores_equal_x_transformers() -> None:
    module = pytest.importorskip("x_transformers.x_transformers")
    theirs = module.RotaryEmbedding(8, use_xpos=True, scale_base=512)
    q, k = queries(50), queries(50, seed=1)
    # x-transformers pairs neighbouring channels and centres at half of the length; gptzoo pairs i with i + D/2.
    q_paired, k_paired = (x.unflatten(-1, (2, 4)).transpose(-2, -1).flatten(-2) for x in (q, k))
    freqs, scale = theirs.forward_from_seq_len(50)
    expected = (
        module.apply_rotary_pos_emb(q_paired, freqs, scale) @ module.apply_rotary_pos_emb(k_paired, freqs, 1 / scale).mT
    )
    torch.testing.assert_close(scores(xpos_of(), q, k, torch.arange(50)[None]), expected, rtol=1e-4, atol=1e-4)


def test_scores_depend_on_distances_only() -> None:
    xpos = xpos_of(scale_base=64.0)
    q, k = queries(1).expand(2, 4, 40, 8), queries(1, seed=1).expand(2, 4, 40, 8)
    near_origin = scores(xpos, q, k, torch.arange(40)[None])
    torch.testing.assert_close(scores(xpos, q, k, torch.arange(300, 340)[None]), near_origin, rtol=1e-3, atol=1e-3)
    for distance in (0, 1, 17):
        same_distance = near_origin.diagonal(-distance, -2, -1)
        torch.testing.assert_close(same_distance, same_distance[..., :1].expand_as(same_distance), rtol=1e-3, atol=1e-3)


def test_a_large_scale_base_equals_rope() -> None:
    spec = gptzoo.load_model_spec({**SMALL, "positional": "rope"})
    rope = spec.positional.build(spec.dims, frozenset({8}))
    q, k = queries(20), queries(20, seed=1)
    positions = torch.arange(20)[None]
    expected = scores(rope, q, k, positions)
    torch.testing.assert_close(scores(xpos_of(scale_base=1e9), q, k, positions), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(scores(xpos_of(scale_base=100.0), q, k, positions), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("far", [20_000, 1_000_000])
def test_scores_and_gradients_are_finite_at_any_position(dtype: torch.dtype, far: int) -> None:
    xpos = xpos_of()
    q = queries(6).to(dtype).requires_grad_()
    positions = torch.tensor([[-1, 0, far // 2, far - 1, far, far + 1]])
    result = scores(xpos, q, q, positions)  # including later keys, which a model would mask
    assert result.dtype == dtype
    assert result.isfinite().all()
    result.tril().sum().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()


def test_decay_is_relative_up_to_the_position_where_the_factors_stop_growing() -> None:
    xpos = xpos_of()
    q, k = queries(1).expand(2, 4, 2, 8), queries(1, seed=1).expand(2, 4, 2, 8)

    def score_at(position: int) -> Tensor:
        return scores(xpos, q, k, torch.tensor([[position - 100, position]]))[..., 1, 0]

    torch.testing.assert_close(score_at(16_000), score_at(100), rtol=1e-2, atol=2e-2)
    assert not torch.allclose(score_at(40_000), score_at(100), rtol=1e-2, atol=2e-2)


def test_each_width_is_rotated_with_its_own_tables() -> None:
    spec = gptzoo.load_model_spec({**SMALL, "positional": "xpos"})
    xpos = spec.positional.build(spec.dims, frozenset({8, 4}))
    tables = xpos.prepare(torch.arange(5)[None])
    for width in (8, 4):
        q = queries(5, width)
        alone = xpos_of(width)
        assert torch.equal(xpos.rotate(q, q, tables)[1], alone.rotate(q, q, alone.prepare(torch.arange(5)[None]))[1])

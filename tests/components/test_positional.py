"""Each positional against its formula, and the methods of the base class."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import Arithmetic, admit, logits_of, small, tokens_of, with_large_weights
from torch import Tensor

import gptzoo
from gptzoo import Dims, Positional
from gptzoo.components.positional import (
    LearnedPositional,
    NoPositional,
    RotaryPositional,
    SinusoidalPositional,
)

DIMS = Dims(vocab_size=13, context_length=16, d_model=32, n_layers=2, n_heads=4)


def rope(width: int = 8, theta: float = 10000.0) -> RotaryPositional:
    return RotaryPositional(RotaryPositional.Config(theta=theta), DIMS, frozenset({width}))


def turned(part: Positional, x: Tensor, *positions: int) -> Tensor:
    """(T, D) at these positions -> (T, D)."""
    q, k = part.rotate(x[None, None], x[None, None], part.prepare(torch.tensor([positions])))
    assert torch.equal(q, k)
    return q[0, 0]


# ---------------------------------------------------------------------- rope


@given(first=st.integers(0, 1000), second=st.integers(0, 1000), shift=st.integers(0, 1000))
def test_rope_scores_depend_on_the_distance_alone(first: int, second: int, shift: int) -> None:
    q, k = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    part = rope()
    score = turned(part, q, first) @ turned(part, k, second).T
    shifted = turned(part, q, first + shift) @ turned(part, k, second + shift).T
    torch.testing.assert_close(shifted, score, rtol=1e-3, atol=1e-3)  # angles are float32: 1000 radians to 1e-4


def test_rope_scores_change_with_the_distance() -> None:
    q, k = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(0))
    scores = {round((turned(rope(), q, 5) @ turned(rope(), k, key).T).item(), 3) for key in range(6)}
    assert len(scores) == 6


def test_rope_rotates_each_pair_of_a_head_by_its_angle() -> None:
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    y = turned(rope(theta=100.0), x, 0, 1, 7)
    for row, position in enumerate((0, 1, 7)):
        for pair in range(4):
            angle = position * 100.0 ** (-2 * pair / 8)
            before = complex(x[row, pair], x[row, pair + 4])
            after = before * complex(math.cos(angle), math.sin(angle))
            assert abs(complex(y[row, pair], y[row, pair + 4]) - after) < 1e-5


def test_rope_prepares_tables_for_every_rotated_width() -> None:
    part = RotaryPositional(RotaryPositional.Config(), DIMS, frozenset({4, 8}))
    positions = torch.arange(3)[None]
    tables = part.prepare(positions)
    for width in (4, 8):
        x = torch.randn(1, 1, 3, width)
        q, _ = part.rotate(x, x, tables)
        assert torch.equal(q[0, 0], turned(rope(width), x[0, 0], 0, 1, 2))


def test_rope_keeps_the_dtype_of_queries_and_keys() -> None:
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        assert turned(rope(), torch.ones(2, 8, dtype=dtype), 0, 1).dtype == dtype


def test_a_rope_model_is_invariant_to_shifted_positions(device: str) -> None:
    model = with_large_weights(gptzoo.build(small(positional="rope")).eval()).to(device)
    tokens = tokens_of(model, 2, 6)
    positions = torch.arange(6, device=device)[None]
    shifted = logits_of(model, tokens, positions=positions + 4)
    torch.testing.assert_close(shifted, logits_of(model, tokens), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------- sinusoidal


@pytest.mark.parametrize("base", [10000.0, 50.0])
def test_sinusoidal_equals_its_formula(base: float) -> None:
    part = SinusoidalPositional(SinusoidalPositional.Config(base=base, scale_tokens=False), DIMS)
    waves = part.embed(torch.zeros(1, 16, 32), torch.arange(16)[None])[0]
    for position in range(16):
        for i in range(16):
            angle = position / base ** (2 * i / 32)
            assert waves[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert waves[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_sinusoidal_scales_token_embeddings_by_default() -> None:
    x, at = torch.randn(1, 3, 32), torch.arange(3)[None]
    plain = SinusoidalPositional(SinusoidalPositional.Config(scale_tokens=False), DIMS).embed(x, at)
    scaled = SinusoidalPositional(SinusoidalPositional.Config(), DIMS).embed(x, at)
    torch.testing.assert_close(scaled - plain, x * (32**0.5 - 1), rtol=1e-4, atol=1e-4)


def test_sinusoidal_works_beyond_the_context_length() -> None:
    model = gptzoo.build(small(positional="sinusoidal"))
    assert model.max_length is None
    assert logits_of(model, tokens_of(model, 1, 40)).shape == (1, 40, 13)


# ---------------------------------------------------------------------- learned and none


def test_learned_adds_the_vector_of_each_position() -> None:
    part = with_large_weights(LearnedPositional(LearnedPositional.Config(), DIMS))
    x = torch.randn(2, 3, 32)
    positions = torch.tensor([[4, 0, 15], [1, 1, -1]])
    y = part.embed(x, positions)
    for row in range(2):
        for t in range(3):
            if positions[row, t] >= 0:
                torch.testing.assert_close(y[row, t], x[row, t] + part.table.weight[positions[row, t]])
    assert y.isfinite().all()
    assert part.max_length == 16


def test_without_positions_the_last_token_is_invariant_to_the_order_of_the_others(arithmetic: Arithmetic) -> None:
    for positional, knows in (("none", False), ("rope", True), ("learned", True), ("sinusoidal", True)):
        model = arithmetic.model(small(n_layers=1, positional=positional))
        tokens = tokens_of(model, 1, 8)
        shuffled = tokens[:, [3, 1, 0, 6, 2, 5, 4, 7]]
        before, after = (logits_of(model, t, last_only=True) for t in (tokens, shuffled))
        if knows:
            assert not torch.allclose(after, before, atol=1e-2), positional
        else:
            arithmetic.close(after, before)


# ---------------------------------------------------------------------- methods


def test_overriding_a_method_declares_the_required_feature() -> None:
    class Both(RotaryPositional):
        """Rotates, as its parent does, and adds a bias."""

        name = "both"

        def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor | None:
            return None

    assert Both.requires == {"rotate", "bias"}
    assert RotaryPositional.requires == {"rotate"}
    for part in (NoPositional, LearnedPositional, SinusoidalPositional):
        assert part.requires == set()


class Counting(Positional):
    """Counts the calls of each method, and adds a bias so that `bias` is called."""

    name = "counting"

    def __init__(self, config: Any, dims: Any, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.widths = rotary_dims
        self.calls: list[str] = []

    def prepare(self, positions: Tensor) -> str:
        self.calls.append("prepare")
        return "tables"

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        self.calls.append("embed")
        return x

    def rotate(self, q: Tensor, k: Tensor, tables: Any) -> tuple[Tensor, Tensor]:
        assert tables == "tables"
        assert q.shape[1] == 4
        assert k.shape[1] == 2
        self.calls.append("rotate")
        return q, k

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        self.calls.append("bias")
        return torch.zeros(1, 4, q_pos.shape[1], k_pos.shape[1])


@pytest.mark.usefixtures("fresh_registry")
def test_tables_and_bias_are_computed_once_per_forward_and_rotations_once_per_layer() -> None:
    admit(Counting)
    model = gptzoo.build(small(n_layers=3, positional="counting", attention={"type": "sdpa", "n_kv_heads": 2}))
    logits_of(model, tokens_of(model, 2, 5))
    part = model.positionals[0]
    assert sorted(part.calls) == ["bias", "embed", "prepare", "rotate", "rotate", "rotate"]
    assert part.widths == {8}


class Distance(Positional):
    """Adds a score bias that falls with the distance, different in each head."""

    name = "distance"

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        distance = q_pos[:, None, :, None] - k_pos[:, None, None, :]
        return -distance * torch.tensor([0.1, 0.3, 0.5, 1.0], device=q_pos.device)[:, None, None]


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@pytest.mark.parametrize("window", [None, 3])
def test_a_third_party_score_bias_applies_in_full_cached_and_padded_forwards(
    window: int | None, attention: str, arithmetic: Arithmetic
) -> None:
    admit(Distance)
    model = arithmetic.model(small(positional="distance", attention={"type": attention, "window": window}))
    plain = arithmetic.model(small(positional="none", attention={"type": attention, "window": window}))
    tokens = tokens_of(model, 2, 9)
    with torch.inference_mode():
        full = logits_of(model, tokens)
        states = model.new_states(2, 9)
        parts, first = [], 0
        for size in (4, 1, 1, 3):
            positions = torch.arange(first, first + size, device=tokens.device)[None]
            chunk = tokens[:, first : first + size]
            parts.append(logits_of(model, chunk, positions=positions, states=states, no_past=first == 0))
            first += size
        positions = torch.tensor([[-1, -1, -1, 0, 1, 2, 3, 4, 5]], device=tokens.device)
        padded = logits_of(model, tokens.roll(3, 1), positions=positions)
    arithmetic.close(torch.cat(parts, dim=1), full)
    arithmetic.close(padded[:, 3:], full[:, :6])
    assert not torch.allclose(full, logits_of(plain, tokens), atol=1e-2)

"""`block_sparse` compared with a loop over positions, and its FLOPs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import gptzoo

PATTERNS = [(4, 2, 3), (4, 1, None), (3, 3, 4), (1, 2, 5), (5, 1, 2)]  # block_size, n_local, stride


def attends(q: int, k: int, block_size: int, n_local: int, stride: int | None, causal: bool) -> bool:
    """Return True if a query attends to a key, by section 4.2 of Sparse Transformers, with blocks for positions."""
    if causal and k > q:
        return False
    block_distance = abs(q // block_size - k // block_size)
    return block_distance < n_local or (stride is not None and (k // block_size) % stride == 0)


def attention_by_loops(q: Tensor, k: Tensor, v: Tensor, pattern: Any, causal: bool, slopes: Tensor | None) -> Tensor:
    """Attend with queries (B, H, T, D), keys and values (B, G, T, D), position by position."""
    B, H, T, D = q.shape
    y = torch.zeros_like(q)
    for b in range(B):
        for h in range(H):
            g = h // (H // k.shape[1])
            for t in range(T):
                attended = [s for s in range(T) if attends(t, s, *pattern, causal)]
                scores = torch.stack([q[b, h, t] @ k[b, g, s] / D**0.5 for s in attended])
                if slopes is not None:
                    scores = scores - slopes[h] * torch.tensor([abs(t - s) for s in attended])
                y[b, h, t] = scores.softmax(0) @ v[b, g, attended]
    return y


@pytest.mark.parametrize("trivially_causal", [True, False], ids=["gathered", "masked"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "noncausal"])
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("pattern", PATTERNS)
@torch.inference_mode()
def test_it_equals_a_loop_over_positions(
    pattern: Any, causal: bool, bias: bool, trivially_causal: bool, attention_of: Any, context_of: Any
) -> None:
    block_size, n_local, stride = pattern
    options = {"block_size": block_size, "n_local": n_local, "stride": stride, "n_kv_heads": 2}
    module = attention_of({"type": "block_sparse", **options})
    context = context_of(
        torch.arange(22)[None], bias=bias, dims=module.dims, causal=causal, trivially_causal=trivially_causal
    )
    generator = torch.Generator().manual_seed(3)
    q = torch.randn(2, 4, 22, 8, generator=generator) * 2
    k, v = torch.randn(2, 2, 2, 22, 8, generator=generator)
    y, _ = module.attend(q, k, v, context, context.positions)
    slopes = torch.linspace(0.1, 1, 4) if bias else None
    torch.testing.assert_close(y, attention_by_loops(q, k, v, pattern, causal, slopes), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
def test_blocks_and_the_mask_give_the_same_gradients(bias: bool, attention_of: Any, context_of: Any) -> None:
    module = attention_of({"type": "block_sparse", "block_size": 4, "stride": 3, "n_kv_heads": 2}).double()
    x = torch.randn(2, 30, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gradients = []
    for trivially_causal in (True, False):
        context = context_of(torch.arange(30)[None], bias=bias, dims=module.dims, trivially_causal=trivially_causal)
        module.zero_grad()
        module(x, context).square().sum().backward()
        gradients.append([p.grad.clone() for p in module.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def forward_flops(attention: Any, length: int) -> int:
    spec = {"vocab_size": 13, "context_length": length, "d_model": 64, "n_layers": 2, "n_heads": 4}
    model = gptzoo.build({**spec, "positional": "rope", "attention": attention}, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, length, dtype=torch.int64, device="meta"))
    return counter.get_total_flops()


def test_flops_are_those_of_the_attended_blocks_only() -> None:
    length, block_size, n_local, stride = 1000, 16, 2, 8
    options = {"block_size": block_size, "n_local": n_local, "stride": stride}
    sparse = forward_flops({"type": "block_sparse", **options}, length)
    n_blocks = -(-length // block_size)
    n_key_blocks = n_local + -(-n_blocks // stride)
    per_layer = 2 * 2 * 64 * (n_blocks * block_size) * (n_key_blocks * block_size)  # scores, and the sum of values
    assert forward_flops("sdpa", length) - sparse == 2 * (2 * 2 * 64 * length**2 - per_layer)
    assert n_key_blocks < n_blocks / 6


def test_without_a_stride_flops_grow_linearly_with_the_length() -> None:
    local = {"type": "block_sparse", "block_size": 16, "stride": None}
    assert forward_flops(local, 2048) == 2 * forward_flops(local, 1024)


@torch.inference_mode()
def test_blocks_are_aligned_to_positions_and_not_to_tensor_indices(attention_of: Any, context_of: Any) -> None:
    module = attention_of({"type": "block_sparse", "block_size": 4, "n_local": 1, "stride": None})
    x = torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(2))

    def changed_by_first_token(positions: Tensor) -> list[bool]:
        other = x.clone()
        other[:, 0] += 1
        context = context_of(positions[None])
        return ((module(x, context) - module(other, context)).abs() > 1e-6).any(-1)[0].tolist()

    assert changed_by_first_token(torch.arange(8)) == [True] * 4 + [False] * 4
    assert changed_by_first_token(torch.arange(8) + 3) == [True] + [False] * 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 8}, r"\$\.attention\.window: is not supported: n_local sets"),
        (
            {"block_size": 16, "n_local": 3},
            r"n_local: 3 blocks of 16 positions exceed context_length 32",
        ),
        ({"stride": 1}, r"\$\.attention\.stride: should not be 1, which makes attention dense"),
        ({"block_size": 0}, r"\$\.attention\.block_size"),
        ({"n_kv_heads": 3}, r"\$\.attention\.n_kv_heads"),
    ],
)
def test_dense_and_invalid_patterns_are_refused(options: dict[str, Any], message: str) -> None:
    spec = {"context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4}
    with pytest.raises(gptzoo.SpecError, match=message):
        gptzoo.load_model_spec({**spec, "attention": {"type": "block_sparse", "block_size": 4, **options}})


@pytest.mark.parametrize("option", [{"block_size": 8}, {"n_local": 1}, {"stride": 2}, {"stride": None}])
@torch.inference_mode()
def test_every_option_changes_the_output(option: dict[str, Any], model_of: Any, tokens: Tensor) -> None:
    base = {"type": "block_sparse", "block_size": 4, "n_local": 2, "stride": 3}
    assert not torch.allclose(model_of(base)(tokens)[0], model_of({**base, **option})(tokens)[0], atol=1e-2)

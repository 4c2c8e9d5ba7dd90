"""Sinks and soft caps of `flex` and `block_sparse`, compared with loops over positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

OPTIONS: dict[str, dict[str, Any]] = {
    "sinks": {"sinks": True},
    "softcap": {"softcap": 1.5},
    "both": {"sinks": True, "softcap": 1.5},
}
BLOCKS = {"type": "block_sparse", "block_size": 4, "n_local": 2, "stride": 3}
LENGTH = 22


def attends(q: int, k: int) -> bool:
    """Return True if a query attends to an earlier key: in its block and the one before, or in every third block."""
    return q // 4 - k // 4 < 2 or k // 4 % 3 == 0


def by_loops(
    q: Tensor, k: Tensor, v: Tensor, softcap: float | None, sinks: Tensor | None, sparse: bool, slopes: Tensor | None
) -> Tensor:
    """Attend with queries (B, H, T, D), keys and values (B, G, T, D), position by position."""
    y = torch.zeros_like(q)
    B, H, T, D = q.shape
    for b in range(B):
        for h in range(H):
            g = h // (H // k.shape[1])
            for t in range(T):
                keys = [s for s in range(t + 1) if not sparse or attends(t, s)]
                scores = torch.stack([q[b, h, t] @ k[b, g, s] / D**0.5 for s in keys])
                if softcap is not None:
                    scores = softcap * torch.tanh(scores / softcap)
                if slopes is not None:
                    scores = scores - slopes[h] * torch.tensor([abs(t - s) for s in keys])
                total = scores.exp().sum() + (0 if sinks is None else sinks[h].exp())
                y[b, h, t] = scores.exp() / total @ v[b, g, keys]
    return y


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("kind", ["flex-dense", "flex-uncompiled", "gathered", "masked"])
@torch.inference_mode()
def test_they_equal_a_loop_over_positions(
    options: dict[str, Any], bias: bool, kind: str, attention_of: Any, context_of: Any, request: Any
) -> None:
    if kind == "flex-uncompiled":
        request.getfixturevalue("uncompiled_flex")
    sparse = not kind.startswith("flex")
    module = attention_of({**(BLOCKS if sparse else {"type": "flex"}), "n_kv_heads": 2, **options})
    if module.sinks is not None:
        module.sinks.copy_(torch.tensor([-1.0, 0.5, 2.0, 3.0]))
    positions = torch.arange(LENGTH)[None]
    context = context_of(positions, bias=bias, dims=module.dims, trivially_causal=kind == "gathered")
    generator = torch.Generator().manual_seed(3)
    q = torch.randn(2, 4, LENGTH, 8, generator=generator) * 2
    k, v = torch.randn(2, 2, 2, LENGTH, 8, generator=generator)
    slopes = torch.linspace(0.1, 1, 4) if bias else None
    expected = by_loops(q, k, v, options.get("softcap"), module.sinks, sparse, slopes)
    y, _ = module.attend(q, k, v, context, context.positions)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    without = by_loops(q, k, v, None, None, sparse, slopes)
    assert (without - expected).abs().max() > 0.01


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_blocks_and_the_mask_give_the_same_gradients(
    options: dict[str, Any], attention_of: Any, context_of: Any
) -> None:
    module = attention_of({**BLOCKS, "n_kv_heads": 2, **options}).double()
    x = torch.randn(2, 30, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gradients = []
    for trivially_causal in (True, False):
        context = context_of(torch.arange(30)[None], dims=module.dims, trivially_causal=trivially_causal)
        module.zero_grad()
        module(x, context).square().sum().backward()
        gradients.append([p.grad.clone() for p in module.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)

"""Attention with relative position biases (`Positional.bias`) against x-transformers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support import admit, logits_of, small, tokens_of, with_large_weights
from torch import Tensor, nn

import gptzoo
from gptzoo import ForwardContext, Positional

attend_module = pytest.importorskip("x_transformers.attend")
their_positionals = pytest.importorskip("x_transformers.x_transformers")

T = 12


class Buckets(Positional):
    """T5's relative position bias: a learned value for each head and bucket of distances."""

    name = "buckets"
    n_buckets, max_distance = 8, 16

    def __init__(self, config: Any, dims: Any, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.table = nn.Embedding(self.n_buckets, dims.n_heads)

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        distance = (q_pos[:, :, None] - k_pos[:, None, :]).clamp(min=0)
        exact = self.n_buckets // 2
        spread = (distance / exact).clamp(min=1).log() / math.log(self.max_distance / exact) * (self.n_buckets - exact)
        bucket = torch.where(distance < exact, distance, exact + spread.long()).clamp(max=self.n_buckets - 1)
        return self.table(bucket).permute(0, 3, 1, 2)


class Slopes(Positional):
    """ALiBi for four heads."""

    name = "slopes"

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        slopes = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8], device=q_pos.device)[:, None, None]
        return -slopes * (q_pos[:, None, :, None] - k_pos[:, None, None, :])


def their_bias(positional: Positional) -> Any:
    if isinstance(positional, Slopes):
        return their_positionals.AlibiPositionalBias(heads=4)
    theirs = their_positionals.RelativePositionBias(
        scale=1.0, causal=True, num_buckets=Buckets.n_buckets, max_distance=Buckets.max_distance, heads=4
    )
    theirs.relative_attention_bias.load_state_dict(positional.table.state_dict())  # type: ignore[union-attr]
    return theirs


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize("n_kv_heads", [1, 4])  # with 2, theirs pairs heads in another order than Llama does
@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@pytest.mark.parametrize("component", [Buckets, Slopes])
def test_a_relative_bias_gives_the_same_output_as_x_transformers(
    component: Any, attention: str, n_kv_heads: int
) -> None:
    admit(component)
    spec = small(positional=component.name, attention={"type": attention, "n_kv_heads": n_kv_heads})
    model = with_large_weights(gptzoo.build(spec).eval())
    part, positional = model.blocks[0].attention, model.positionals[0]
    x = torch.randn(2, T, 32, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(T)[None]
    context = ForwardContext(
        positions, positional, self_bias=positional.bias(positions, positions), trivially_causal=True
    )

    q, k, v = (t.unflatten(-1, (-1, 8)).transpose(1, 2) for t in part.qkv(x).split(part.widths, dim=-1))
    theirs = attend_module.Attend(causal=True, heads=4)
    y, _ = theirs(q, k, v, attn_bias=their_bias(positional)(T, T))
    torch.testing.assert_close(part(x, context), part.out(y.transpose(1, 2).flatten(2)), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize("component", [Buckets, Slopes])
def test_the_bias_of_a_decode_step_is_the_last_row_of_the_full_bias(component: Any) -> None:
    admit(component)
    model = with_large_weights(gptzoo.build(small(positional=component.name)).eval())
    tokens = tokens_of(model, 2, T)
    with torch.inference_mode():
        states = model.new_states(2, T)
        logits_of(model, tokens[:, :-1], states=states, no_past=True)
        last = logits_of(model, tokens[:, -1:], positions=torch.tensor([[T - 1]]), states=states)
        full = logits_of(model, tokens, last_only=True)
    torch.testing.assert_close(last, full, rtol=1e-5, atol=1e-5)

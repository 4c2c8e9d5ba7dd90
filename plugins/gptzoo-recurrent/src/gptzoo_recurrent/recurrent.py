"""The base class of the recurrent attentions: projections, heads, the recurrent state, padding and documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptzoo


class HeadSizes(NamedTuple):
    """Numbers and widths of heads. Several value heads may share a query and a key head."""

    n_key_heads: int
    n_value_heads: int
    d_key: int
    d_value: int


class RecurrentAttention(gptzoo.Attention):
    """Base class of attentions that keep one matrix (D, E) per head instead of a KV cache.

    D is the width of a key and E that of a value, a head's width by default. A subclass implements the recurrence in
    `mix`. Consecutive tokens with the same document id form a document, and the state is reset at the start of each.
    """

    supports = frozenset({"rotate", "documents", "padding", "d_head"})
    chunk_size: ClassVar[int] = 64
    """Number of tokens that are computed together by matrix products. It affects speed and memory, not results."""

    class Config(gptzoo.Attention.Config):
        dropout: gptzoo.Inherited[float] = gptzoo.inherited("dropout")
        """Dropout probability for the output, before the residual addition. Default: the model's `dropout`."""
        bias: gptzoo.Inherited[bool] = gptzoo.inherited("bias")
        """Learn biases in the linear projections. Default: the model's `bias`."""

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            if not 0 <= (self.dropout or 0) < 1:
                yield "dropout", "should be at least 0 and below 1"

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.n_heads, self.d_head = dims.n_heads, dims.d_head
        self.sizes = sizes = self.head_sizes(config, dims)
        self.rotary_dim = sizes.d_key
        key_width, value_width = sizes.n_key_heads * sizes.d_key, sizes.n_value_heads * sizes.d_value
        self.widths = [key_width, key_width, value_width]
        self.qkv = nn.Linear(dims.d_model, sum(self.widths), bias=config.bias)
        self.out = nn.Linear(value_width, dims.d_model, bias=config.bias)
        self.out.writes_residual = True  # type: ignore[assignment]
        self.dropout = nn.Dropout(config.dropout)

    def fused_blocks(self) -> Mapping[str, gptzoo.FusedBlocks]:
        return {"qkv.weight": gptzoo.FusedBlocks(tuple(self.widths))}

    def head_sizes(self, config: Config, dims: gptzoo.Dims) -> HeadSizes:
        """Return the numbers and widths of the heads."""
        return HeadSizes(dims.n_heads, dims.n_heads, dims.d_head, dims.d_head)

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        B, T, _ = x.shape
        dtype = state_dtype(x)
        old_state = self.new_state(B, T, device=x.device, dtype=dtype) if state is None else state
        y, new_state = self.mix(x, context, {name: tensor.to(dtype) for name, tensor in old_state.items()})
        if state is not None:
            for name, tensor in new_state.items():
                state[name].copy_(tensor)
        return self.dropout(self.out(y.to(x.dtype)))

    def mix(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State) -> tuple[Tensor, gptzoo.State]:
        """Run the recurrence over tokens (B, T, C) from a state. Return the outputs (B, T, H E) and the new state."""
        raise TypeError(f"{type(self).__name__} does not implement mix")

    def heads(self, qkv: Tensor) -> Iterator[Tensor]:
        """Split projections into queries and keys (B, H, T, D) and values (B, H, T, E), in float32 or wider."""
        sizes = self.sizes
        q, k, v = qkv.to(state_dtype(qkv)).split(self.widths, dim=-1)
        repeats = sizes.n_value_heads // sizes.n_key_heads
        for vectors in (q, k):
            heads = vectors.unflatten(-1, (sizes.n_key_heads, -1)).transpose(1, 2)
            yield heads if repeats == 1 else heads.repeat_interleave(repeats, dim=1)
        yield v.unflatten(-1, (sizes.n_value_heads, -1)).transpose(1, 2)

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        shape = (batch_size, self.sizes.n_value_heads, self.sizes.d_key, self.sizes.d_value)
        return {"memory": torch.zeros(shape, device=device, dtype=torch.promote_types(dtype, torch.float32))}


def state_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which states and decays are computed: the dtype of x, but at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def present_tokens(context: gptzoo.ForwardContext) -> Tensor | None:
    """Return a mask (B|1, T) that is False for padding, or None if there is no padding."""
    return None if context.trivially_causal else context.positions >= 0


def document_starts(context: gptzoo.ForwardContext) -> Tensor | None:
    """Return a mask (B, T) that is True where a token and the last token before it belong to different documents.

    Padding is skipped. Returns None if the sequences are not packed documents.
    """
    if context.documents is None:
        return None
    index = torch.arange(context.documents.shape[1], device=context.documents.device)
    last_present = torch.where(context.positions >= 0, index, 0).cummax(dim=1).values  # (B|1, T)
    document = context.documents.gather(1, last_present.expand_as(context.documents))
    return F.pad(document[:, 1:] != document[:, :-1], (1, 0))

"""The base class of the recurrent attentions: projections, heads, the recurrent state, padding and documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptzoo


class RecurrentAttention(gptzoo.Attention):
    """Base class of attentions that keep one matrix (D, D) per head instead of a KV cache.

    A subclass implements the recurrence in `mix`. Consecutive tokens with the same document id form a document, and
    the state is reset at the start of each.
    """

    supports = frozenset({"rotate", "documents", "padding"})
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
        self.rotary_dim = self.d_head
        self.qkv = nn.Linear(dims.d_model, 3 * dims.d_model, bias=config.bias)
        self.out = nn.Linear(dims.d_model, dims.d_model, bias=config.bias)
        self.out.writes_residual = True  # type: ignore[assignment]
        self.dropout = nn.Dropout(config.dropout)

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
        """Run the recurrence over tokens (B, T, C) from a state. Return the outputs (B, T, C) and the new state."""
        raise TypeError(f"{type(self).__name__} does not implement mix")

    def heads(self, qkv: Tensor) -> Iterator[Tensor]:
        """Split (B, T, 3C) into queries, keys and values, (B, H, T, D) each, in float32 or wider."""
        parts = qkv.to(state_dtype(qkv)).chunk(3, dim=-1)
        return (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in parts)

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        shape = (batch_size, self.n_heads, self.d_head, self.d_head)
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

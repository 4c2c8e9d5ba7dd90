"""What the recurrent attentions share: projections, heads, a state that starts at zero, padding and documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptzoo

State = dict[str, Tensor]


class RecurrentAttention(gptzoo.Attention):
    """Base of attentions that keep a matrix (D, D) a head instead of a cache. A subclass says in `mix` how.

    A run of tokens with one document id is a document: the state is empty at its start.
    """

    supports = frozenset({"rotate", "documents", "padding"})
    chunk: ClassVar[int] = 64
    """Tokens that meet as in attention, while from chunk to chunk only the state is carried. It changes no result."""

    class Config(gptzoo.Attention.Config):
        dropout: float | None = gptzoo.inherited("dropout", "Of the output, before it joins the residual stream.")
        bias: bool | None = gptzoo.inherited("bias", "Of the projections.")

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            if not 0 <= (self.dropout or 0) < 1:
                yield "dropout", "should be at least 0 and below 1"

    def __init__(self, config: Any, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.n_heads, self.d_head = dims.n_heads, dims.d_head
        self.rotary_dim = self.d_head
        self.qkv = nn.Linear(dims.d_model, 3 * dims.d_model, bias=config.bias)
        self.out = nn.Linear(dims.d_model, dims.d_model, bias=config.bias)
        self.out.writes_residual = True  # type: ignore[assignment]
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: State | None = None) -> Tensor:
        B, T, _ = x.shape
        exact = exact_dtype(x)
        before = self.new_state(B, T, device=x.device, dtype=exact) if state is None else state
        y, after = self.mix(x, context, {name: tensor.to(exact) for name, tensor in before.items()})
        if state is not None:
            for name, tensor in after.items():
                state[name].copy_(tensor)
        return self.dropout(self.out(y.to(x.dtype)))

    def mix(self, x: Tensor, context: gptzoo.ForwardContext, state: State) -> tuple[Tensor, State]:
        """Tokens (B, T, C) and the state before them -> what they read (B, T, C), and the state after them."""
        raise TypeError(f"{type(self).__name__} does not implement mix")

    def heads(self, qkv: Tensor) -> Iterator[Tensor]:
        """(B, T, 3C) -> queries, keys and values, (B, H, T, D) each, in at least float32."""
        parts = qkv.to(exact_dtype(qkv)).chunk(3, dim=-1)
        return (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in parts)

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> State:
        shape = (batch_size, self.n_heads, self.d_head, self.d_head)
        return {"memory": torch.zeros(shape, device=device, dtype=torch.promote_types(dtype, torch.float32))}


def exact_dtype(x: Tensor) -> torch.dtype:
    """In which states and decays are computed: that of x, but at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def present_tokens(context: gptzoo.ForwardContext) -> Tensor | None:
    """(B|1, T) bool: what is not padding; None where nothing is."""
    return None if context.trivially_causal else context.positions >= 0


def document_starts(context: gptzoo.ForwardContext) -> Tensor | None:
    """(B, T) bool: tokens of another document than the token before them, padding aside; None without documents."""
    if context.documents is None:
        return None
    at = torch.arange(context.documents.shape[1], device=context.documents.device)
    latest = (
        torch.where(context.positions >= 0, at, 0).cummax(dim=1).values
    )  # (B|1, T), the last one that is no padding
    document = context.documents.gather(1, latest.expand_as(context.documents))
    return F.pad(document[:, 1:] != document[:, :-1], (1, 0))

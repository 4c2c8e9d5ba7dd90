"""Cross-attention: the target reads the source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptzoo

State = dict[str, Tensor]


class CrossAttention(gptzoo.Sublayer):
    """Multi-head attention from the target to all of the encoder's output that is no padding; it knows no positions."""

    kind = "cross_attention"
    name = "multi_head"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.2.3"

    supports_rollback = True  # what it keeps is of the source: no token of the target changes it

    class Config(gptzoo.Sublayer.Config):
        dropout: float | None = gptzoo.inherited("dropout", "Of the attention weights.")
        out_dropout: float | None = gptzoo.inherited("dropout", "Of the output, before it joins the residual stream.")
        qkv_bias: bool | None = gptzoo.inherited("bias")
        out_bias: bool | None = gptzoo.inherited("bias")

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            for option in ("dropout", "out_dropout"):
                if not 0 <= (getattr(self, option) or 0) < 1:
                    yield option, "should be at least 0 and below 1"

    def __init__(self, config: Any, dims: gptzoo.Dims):
        super().__init__(config)
        self.n_heads, self.d_head = dims.n_heads, dims.d_head
        self.q = nn.Linear(dims.d_model, dims.d_model, bias=config.qkv_bias)
        self.kv = nn.Linear(dims.d_model, 2 * dims.d_model, bias=config.qkv_bias)
        self.out = nn.Linear(dims.d_model, dims.d_model, bias=config.out_bias)
        self.out.writes_residual = True  # type: ignore[assignment]
        self.out_dropout = nn.Dropout(config.out_dropout)

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        q = self._heads(self.q(x)).transpose(1, 2)  # (B, H, T, D)
        k, v, valid = self._memory(context, state)
        k, v = k.to(q.dtype).transpose(1, 2), v.to(q.dtype).transpose(1, 2)  # (B, H, M, D)
        captured = "attention" in context.capture
        y, weights = (_spelled_out if captured else _fused)(q, k, v, valid[:, None, None, :], self._dropout())
        y = self.out_dropout(self.out(y.transpose(1, 2).flatten(2)))  # (B, T, C)
        if weights is None:
            return y
        k_pos = torch.where(valid, valid.cumsum(1) - 1, -1)
        return gptzoo.SublayerOutput(y, captures={"attention": weights, "k_pos": k_pos})

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> State:
        """Room for the keys and values of a source of up to `max_length` tokens."""
        shape = (batch_size, max_length, self.n_heads, self.d_head)
        return {
            "k": torch.zeros(shape, device=device, dtype=dtype),
            "v": torch.zeros(shape, device=device, dtype=dtype),
            "valid": torch.zeros(shape[:2], device=device, dtype=torch.bool),
        }

    def _memory(self, context: gptzoo.ForwardContext, state: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values (B, M, H, D) and which of them count (B, M): of the step's memory, else of the one kept."""
        if context.memory is None or context.memory_valid is None:
            return state["k"], state["v"], state["valid"]
        k, v = map(self._heads, self.kv(context.memory).chunk(2, dim=-1))
        if state is not None:
            length = k.shape[1]
            state["k"][:, :length] = k.to(state["k"].dtype)
            state["v"][:, :length] = v.to(state["v"].dtype)
            state["valid"].zero_()[:, :length] = context.memory_valid
        return k, v, context.memory_valid

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, self.d_head))  # (B, …, C) -> (B, …, H, D)

    def _dropout(self) -> float:
        return self.config.dropout if self.training else 0.0


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout: float) -> tuple[Tensor, None]:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout), None


def _spelled_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout: float) -> tuple[Tensor, Tensor]:
    scores = q @ k.mT * q.shape[-1] ** -0.5  # (B, H, T, M)
    weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)
    weights = weights.masked_fill(~mask, 0.0)  # a row with nothing to read is NaN; the fused kernel makes it 0
    return F.dropout(weights, dropout) @ v, weights

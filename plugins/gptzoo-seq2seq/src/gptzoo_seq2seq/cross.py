"""Cross-attention from the target to the encoded source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptzoo


class CrossAttention(gptzoo.Sublayer):
    """Multi-head cross-attention: each target token attends to all source tokens, without position encoding."""

    kind = "cross_attention"
    name = "multi_head"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.2.3"

    supports_rollback = True  # the state holds the source only, so target tokens do not change it

    class Config(gptzoo.Sublayer.Config):
        dropout: gptzoo.Inherited[float] = gptzoo.inherited("dropout")
        """Dropout probability for attention weights. Default: the model's `dropout`."""
        out_dropout: gptzoo.Inherited[float] = gptzoo.inherited("dropout")
        """Dropout probability for the output, before the residual addition. Default: the model's `dropout`."""
        qkv_bias: gptzoo.Inherited[bool] = gptzoo.inherited("bias")
        """Learn a bias in the query, key and value projections. Default: the model's `bias`."""
        out_bias: gptzoo.Inherited[bool] = gptzoo.inherited("bias")
        """Learn a bias in the output projection. Default: the model's `bias`."""

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            for option in ("dropout", "out_dropout"):
                if not 0 <= (getattr(self, option) or 0) < 1:
                    yield option, "should be at least 0 and below 1"

        def build(self, dims: gptzoo.Dims) -> gptzoo.Sublayer:
            """Construct the cross-attention for the layer `dims.layer`."""
            cross_attention: gptzoo.Sublayer = super().build(dims)
            return cross_attention

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims):
        super().__init__(config)
        self.n_heads, self.d_head = dims.n_heads, dims.d_head
        width = self.n_heads * self.d_head
        self.q = nn.Linear(dims.d_model, width, bias=config.qkv_bias)
        self.kv = nn.Linear(dims.d_model, 2 * width, bias=config.qkv_bias)
        self.out = nn.Linear(width, dims.d_model, bias=config.out_bias)
        self.out.writes_residual = True  # type: ignore[assignment]
        self.out_dropout = nn.Dropout(config.out_dropout)

    def fused_blocks(self) -> Mapping[str, gptzoo.FusedBlocks]:
        width = self.n_heads * self.d_head
        return {"kv.weight": gptzoo.FusedBlocks((width, width))}

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        q = self._split_heads(self.q(x)).transpose(1, 2)  # (B, H, T, D)
        k, v, valid = self._source(context, state)
        k, v = k.to(q.dtype).transpose(1, 2), v.to(q.dtype).transpose(1, 2)  # (B, H, M, D)
        attend = _attend_with_weights if "attention" in context.capture else _attend_fused
        y, weights = attend(q, k, v, valid[:, None, None, :], self.config.dropout if self.training else 0.0)
        y = self.out_dropout(self.out(y.transpose(1, 2).flatten(2)))  # (B, T, C)
        if weights is None:
            return y
        k_pos = torch.where(valid, valid.cumsum(1) - 1, -1)
        return gptzoo.SublayerOutput(y, captures={"attention": weights, "k_pos": k_pos})

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        """Allocate keys and values for a source of up to `max_length` tokens."""
        shape = (batch_size, max_length, self.n_heads, self.d_head)
        return {
            "k": torch.zeros(shape, device=device, dtype=dtype),
            "v": torch.zeros(shape, device=device, dtype=dtype),
            "valid": torch.zeros(shape[:2], device=device, dtype=torch.bool),
        }

    def _source(self, context: gptzoo.ForwardContext, state: gptzoo.State | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys and values (B, M, H, D) of the source and the mask (B, M) that is False for padding.

        They are computed from the encoder output in the context and cached in the state. Without an encoder output,
        they are read from the state.
        """
        if context.memory is None or context.memory_valid is None:
            assert state is not None  # the architecture requires a source or states that hold one
            return state["k"], state["v"], state["valid"]
        k, v = map(self._split_heads, self.kv(context.memory).chunk(2, dim=-1))
        if state is not None:
            length = k.shape[1]
            state["k"][:, :length] = k.to(state["k"].dtype)
            state["v"][:, :length] = v.to(state["v"].dtype)
            state["valid"].zero_()[:, :length] = context.memory_valid
        return k, v, context.memory_valid

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, self.d_head))  # (B, …, C) -> (B, …, H, D)


def _attend_fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout: float) -> tuple[Tensor, None]:
    return gptzoo.fused_attention(q, k, v, mask=mask, dropout=dropout), None


def _attend_with_weights(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, dropout: float) -> tuple[Tensor, Tensor]:
    scores = q @ k.mT * q.shape[-1] ** -0.5  # (B, H, T, M)
    weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)
    weights = weights.masked_fill(~mask, 0.0)  # the softmax over an empty source is NaN; the fused kernel returns 0
    return F.dropout(weights, dropout) @ v, weights

"""The kind `attention`: projections, heads and KV cache in one class, and two implementations of the core.

`naive` and `sdpa` have the same parameters under the same names, so weights of one can be loaded into the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from gptzoo.component import Inherited, inherited
from gptzoo.components.cache import extend, new_cache
from gptzoo.components.context import ForwardContext
from gptzoo.components.norm import NormLayer
from gptzoo.components.part import TensorPlan
from gptzoo.components.sublayer import State, Sublayer, SublayerOutput
from gptzoo.components.tensor_plan import ColumnParallel, Replicated, RowParallel, TensorSplit, check_divisible
from gptzoo.dims import Dims
from gptzoo.errors import InputError
from gptzoo.reference import Reference


class Attention(Sublayer):
    """Base class of the kind `attention`: mixes information across positions, never from later ones."""

    kind = "attention"

    class Config(Sublayer.Config):
        """The options of an attention."""

        def build(self, dims: Dims) -> Attention:
            """Construct the attention for the layer `dims.layer`."""
            attention: Attention = super().build(dims)
            return attention

    config: Config

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config)
        self.dims = dims


class MultiHeadAttention(Attention):
    """Multi-head attention with grouped queries, sliding window, dropout and query/key norms.

    A subclass implements `attend`, which computes outputs from queries, keys and values.
    """

    supports = frozenset({"rotate", "bias", "documents", "padding", "noncausal", "capture"})

    class Config(Attention.Config):
        n_kv_heads: Inherited[PositiveInt] = inherited("n_heads")
        """Number of key/value heads (GQA, arXiv:2305.13245); 1 is multi-query attention."""
        window: PositiveInt | None = None
        """Size of the sliding window in tokens (arXiv:2004.05150): a token attends to itself and the `window - 1`
        tokens before it. Null: no window."""
        dropout: Inherited[float] = inherited("dropout")
        """Dropout probability for attention weights."""
        out_dropout: Inherited[float] = inherited("dropout")
        """Dropout probability for the attention output, before the residual addition."""
        qkv_bias: Inherited[bool] = inherited("bias")
        """Learn a bias in the query, key and value projections."""
        out_bias: Inherited[bool] = inherited("bias")
        """Learn a bias in the output projection."""
        qk_norm: Annotated[NormLayer.Config, Reference("norm_layer")] | None = None
        """Norm layer for each query and key head, before the rotation (arXiv:2010.04245). Null: none."""

        def problems(self, dims: Dims) -> Iterator[tuple[str, str]]:
            if self.n_kv_heads and dims.n_heads % self.n_kv_heads:
                yield "n_kv_heads", f"must divide the number of query heads, {dims.n_heads}, got {self.n_kv_heads}"
            if self.window and self.window > dims.context_length:
                yield (
                    "window",
                    f"must not exceed context_length {dims.context_length}, got {self.window}; use null for no window",
                )
            for option in ("dropout", "out_dropout"):
                if not 0 <= (getattr(self, option) or 0) < 1:
                    yield option, "should be at least 0 and below 1"

    config: Config

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config, dims)
        self.n_heads, self.n_kv_heads, self.d_head = dims.n_heads, config.n_kv_heads, dims.d_head
        self.window = config.window
        self.rotary_dim = self.d_head
        self.supports_rollback = self.window is None  # a ring buffer has overwritten keys of earlier windows
        q_width, kv_width = self.n_heads * self.d_head, self.n_kv_heads * self.d_head
        self.widths = [q_width, kv_width, kv_width]
        self.qkv = nn.Linear(dims.d_model, sum(self.widths), bias=config.qkv_bias)
        self.q_norm = config.qk_norm.build(self.d_head) if config.qk_norm else None
        self.k_norm = config.qk_norm.build(self.d_head) if config.qk_norm else None
        self.out = nn.Linear(q_width, dims.d_model, bias=config.out_bias)
        self.out.writes_residual = True  # type: ignore[assignment]
        self.out_dropout = nn.Dropout(config.out_dropout)

    def forward(self, x: Tensor, context: ForwardContext, state: State | None = None) -> Tensor | SublayerOutput:
        B, T, _ = x.shape
        q, k, v = self.qkv(x).split(self.widths, dim=-1)
        q = q.view(B, T, self.n_heads, self.d_head).transpose(1, 2)  # (B, H, T, D)
        k = k.view(B, T, self.n_kv_heads, self.d_head).transpose(1, 2)  # (B, G, T, D)
        v = v.view(B, T, self.n_kv_heads, self.d_head)  # (B, T, G, D)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = context.rotate(q, k)
        k_pos = context.positions
        if state is not None:
            visible, k_pos = extend(
                state,
                {"k": k.transpose(1, 2), "v": v},
                context.positions,
                no_past=context.no_past,
                memo=context.memo,
                position_limit=context.position_limit,
            )
            k, v = visible["k"].transpose(1, 2), visible["v"]  # (B, G, S, D), (B, S, G, D)
        y, weights = self.attend(q, k, v.transpose(1, 2), context, k_pos)
        output: Tensor = self.out_dropout(self.out(y.transpose(1, 2).reshape(B, T, -1)))
        if weights is None:
            return output
        return SublayerOutput(output, captures={"attention": weights, "k_pos": k_pos})

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the outputs (B, H, T, D) for queries (B, H, T, D) and keys and values (B, G, S, D).

        The second value is the attention weights (B, H, T, S) if `context.capture` names "attention", else None.
        """
        raise TypeError(f"{type(self).__name__} does not implement attend")

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> State:
        n_slots = min(self.window or max_length, max_length)
        shape = (self.n_kv_heads, self.d_head)
        return new_cache(batch_size, n_slots, {"k": shape, "v": shape}, device=device, dtype=dtype)

    def tensor_parallel(self, n: int) -> TensorPlan | None:
        """Split the heads; a shard has some query heads and the key/value heads that they use."""
        if self.config.dropout:
            raise InputError(
                "attention dropout draws one mask for all heads, which processes that each have some of the heads "
                "cannot reproduce. Set the attention's own dropout to 0 (out_dropout may stay)."
            )
        check_divisible(n, [(self.n_heads, "query heads"), (self.n_kv_heads, "key/value heads")])
        plan: dict[str, TensorSplit] = {"qkv": ColumnParallel(tuple(self.widths)), "out": RowParallel()}
        if self.config.qk_norm is not None:
            plan |= {"q_norm": Replicated(partial=True), "k_norm": Replicated(partial=True)}
        self.n_heads, self.n_kv_heads = self.n_heads // n, self.n_kv_heads // n
        self.widths = [width // n for width in self.widths]
        return plan


class NaiveAttention(MultiHeadAttention):
    """Scaled dot-product attention step by step: scores, mask, softmax, weighted sum."""

    name = "naive"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762"

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        group_size = self.n_heads // self.n_kv_heads
        k, v = k.repeat_interleave(group_size, dim=1), v.repeat_interleave(group_size, dim=1)  # (B, H, S, D)
        scores = q @ k.transpose(-2, -1) * self.d_head**-0.5  # (B, H, T, S)
        if (bias := context.bias(k_pos)) is not None:
            scores = scores + bias
        scores = scores.masked_fill(~context.attention_mask(k_pos, self.window), float("-inf"))
        weights = scores.softmax(dim=-1)
        y = F.dropout(weights, self.config.dropout, self.training).to(v.dtype) @ v  # a float32 bias widens the weights
        return y, weights if "attention" in context.capture else None


class SdpaAttention(NaiveAttention):
    """Scaled dot-product attention with torch's fused kernels. Falls back to `naive` to capture attention weights."""

    name = "sdpa"
    paper = "Dao et al. 2022, FlashAttention, arXiv:2205.14135"

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        decodes_on_cpu = q.shape[2] == 1 and q.is_cpu and not self.training
        if "attention" in context.capture:
            return super().attend(q, k, v, context, k_pos)
        if decodes_on_cpu and torch.compiler.is_compiling():
            return self._attend_one_query(q, k, v, context, k_pos), None
        bias = context.bias(k_pos)
        # torch's fastest kernels accept no mask tensor. None is needed if only later positions are masked.
        needs_no_mask = context.trivially_causal and bias is None and (self.window is None or q.shape[2] <= self.window)
        mask: Tensor | None = None
        if not needs_no_mask and not (bias is None and context.is_unmasked(k_pos, self.window)):
            mask = context.attention_mask(k_pos, self.window)  # (B|1, 1, T, S)
            if bias is not None:
                mask = bias.to(q.dtype).masked_fill(~mask, float("-inf"))
        dtype = q.dtype
        if decodes_on_cpu and dtype == torch.bfloat16 and bias is None:
            q, k, v = q.float(), k.float(), v.float()  # faster than torch's bfloat16 kernel, by a factor of two
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.config.dropout if self.training else 0.0,
            is_causal=needs_no_mask and context.causal,
            enable_gqa=self.n_kv_heads != self.n_heads,
        )
        return y.to(dtype), None

    def _attend_one_query(self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor) -> Tensor:
        """Attend with one query per row, as elementwise products and sums.

        torch.compile turns these into loops that read each key and value once. Its matrix products with one row are
        slower, and in bfloat16 torch's kernels take three times as long.
        """
        (B, H, _, D), G, dtype = q.shape, k.shape[1], q.dtype
        wide = torch.promote_types(dtype, torch.float32)
        q, k, v = q.to(wide).view(B, G, H // G, 1, D), k.to(wide)[:, :, None], v.to(wide)[:, :, None]
        scores = (q * k).sum(-1) * self.d_head**-0.5  # (B, G, H/G, S)
        if (bias := context.bias(k_pos)) is not None:
            scores = scores + bias.view(bias.shape[0], G, H // G, -1)
        scores = scores.masked_fill(~context.attention_mask(k_pos, self.window), float("-inf"))
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        y: Tensor = (weights[..., None] * v).sum(-2) / weights.sum(-1, keepdim=True)  # (B, G, H/G, D)
        return y.view(B, H, 1, D).to(dtype)

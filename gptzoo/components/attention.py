"""Attention: one class that owns projections, heads and cache, and two ways to turn scores into outputs.

`naive` and `sdpa` have the same parameters under the same names, so weights trained with one run with the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from gptzoo.component import Config, inherited
from gptzoo.components.cache import extend, new_cache
from gptzoo.components.context import ForwardContext
from gptzoo.components.part import TensorPlan
from gptzoo.components.sublayer import State, Sublayer, SublayerOutput
from gptzoo.components.tensor_plan import ColumnParallel, Replicated, RowParallel, check_divisible
from gptzoo.dims import Dims
from gptzoo.errors import InputError
from gptzoo.reference import Reference


class Attention(Sublayer):
    """Base class of the kind `attention`: mixes information across positions, never from the future."""

    kind = "attention"

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config)
        self.dims = dims


class MultiHeadAttention(Attention):
    """Multi-head attention with grouped queries, sliding window, dropout and query/key norms.

    A subclass says in `attend` how queries, keys and values become outputs.
    """

    supports = frozenset({"rotate", "bias", "documents", "padding", "noncausal", "capture"})

    class Config(Attention.Config):
        n_kv_heads: PositiveInt | None = inherited(
            "n_heads", "Key/value heads (GQA, arXiv:2305.13245); 1 is multi-query attention."
        )
        window: PositiveInt | None = None
        """A token sees itself and the `window - 1` before it (arXiv:2004.05150); null sees all before it."""
        dropout: float | None = inherited("dropout", "Of the attention weights.")
        out_dropout: float | None = inherited("dropout", "Of the output, before it joins the residual stream.")
        qkv_bias: bool | None = inherited("bias")
        out_bias: bool | None = inherited("bias")
        qk_norm: Annotated[Config, Reference("norm_layer")] | None = None
        """Normalises each query and key head before positions are turned in (arXiv:2010.04245)."""

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            if self.n_kv_heads and dims.n_heads % self.n_kv_heads:
                yield "n_kv_heads", f"{dims.n_heads} query heads cannot share {self.n_kv_heads} key/value heads evenly"
            if self.window and self.window > dims.context_length:
                yield (
                    "window",
                    f"{self.window} is longer than context_length {dims.context_length}; null sees everything",
                )
            for option in ("dropout", "out_dropout"):
                if not 0 <= (getattr(self, option) or 0) < 1:
                    yield option, "should be at least 0 and below 1"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.n_heads, self.n_kv_heads, self.d_head = dims.n_heads, config.n_kv_heads, dims.d_head
        self.window = config.window
        self.rotary_dim = self.d_head
        self.supports_rollback = self.window is None  # a ring has forgotten what an earlier token could see
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
            seen, k_pos = extend(
                state,
                {"k": k.transpose(1, 2), "v": v},
                context.positions,
                no_past=context.no_past,
                memo=context.memo,
                position_limit=context.position_limit,
            )
            k, v = seen["k"].transpose(1, 2), seen["v"]  # (B, G, S, D), (B, S, G, D)
        y, weights = self.attend(q, k, v.transpose(1, 2), context, k_pos)
        y = self.out_dropout(self.out(y.transpose(1, 2).reshape(B, T, -1)))
        if weights is None:
            return y
        return SublayerOutput(y, captures={"attention": weights, "k_pos": k_pos})

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Queries (B, H, T, D), keys and values (B, G, S, D) -> (B, H, T, D), and the weights if they are captured."""
        raise TypeError(f"{type(self).__name__} does not implement attend")

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> State:
        n_slots = min(self.window or max_length, max_length)
        shape = (self.n_kv_heads, self.d_head)
        return new_cache(batch_size, n_slots, {"k": shape, "v": shape}, device=device, dtype=dtype)

    def tensor_parallel(self, n: int) -> TensorPlan | None:
        """A share has some of the heads, keys and values beside the queries that they serve."""
        if self.config.dropout:
            raise InputError(
                "dropout of attention weights draws one mask for all heads, and processes that share them would draw "
                "others; set the attention's own dropout to 0 (out_dropout may stay)"
            )
        check_divisible(n, [(self.n_heads, "query heads"), (self.n_kv_heads, "key/value heads")])
        plan: dict[str, Any] = {"qkv": ColumnParallel(tuple(self.widths)), "out": RowParallel()}
        if self.config.qk_norm is not None:
            plan |= {"q_norm": Replicated(partial=True), "k_norm": Replicated(partial=True)}
        self.n_heads, self.n_kv_heads = self.n_heads // n, self.n_kv_heads // n
        self.widths = [width // n for width in self.widths]
        return plan


class NaiveAttention(MultiHeadAttention):
    """Scaled dot-product attention spelled out: scores, mask, softmax, weighted sum."""

    name = "naive"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762"

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        n_shared = self.n_heads // self.n_kv_heads
        k, v = k.repeat_interleave(n_shared, dim=1), v.repeat_interleave(n_shared, dim=1)  # (B, H, S, D)
        scores = q @ k.transpose(-2, -1) * self.d_head**-0.5  # (B, H, T, S)
        if (bias := context.bias(k_pos)) is not None:
            scores = scores + bias
        scores = scores.masked_fill(~context.attention_mask(k_pos, self.window), float("-inf"))
        weights = scores.softmax(dim=-1)
        y = F.dropout(weights, self.config.dropout, self.training) @ v
        return y, weights if "attention" in context.capture else None


class SdpaAttention(NaiveAttention):
    """The same, by torch's fused `scaled_dot_product_attention`; asked for its weights, it spells the scores out."""

    name = "sdpa"
    paper = "Dao et al. 2022, FlashAttention, arXiv:2205.14135"

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        one_on_cpu = q.shape[2] == 1 and q.is_cpu and not self.training
        if "attention" in context.capture:
            return super().attend(q, k, v, context, k_pos)
        if one_on_cpu and torch.compiler.is_compiling():
            return self._one_query(q, k, v, context, k_pos), None
        bias = context.bias(k_pos)
        # Without a mask tensor torch takes its fastest kernels; that is exact when at most the future is to be masked.
        unmasked = context.trivially_causal and bias is None and (self.window is None or q.shape[2] <= self.window)
        mask: Tensor | None = None
        if not unmasked and not (bias is None and context.is_unmasked(k_pos, self.window)):
            mask = context.attention_mask(k_pos, self.window)  # (B|1, 1, T, S)
            if bias is not None:
                mask = bias.to(q.dtype).masked_fill(~mask, float("-inf"))
        exact = q.dtype
        if one_on_cpu and exact == torch.bfloat16 and bias is None:
            q, k, v = q.float(), k.float(), v.float()  # torch's bfloat16 kernel takes twice as long as this
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.config.dropout if self.training else 0.0,
            is_causal=unmasked and context.causal,
            enable_gqa=self.n_kv_heads != self.n_heads,
        )
        return y.to(exact), None

    def _one_query(self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor) -> Tensor:
        """One query a row, as sums of products: of these compiled code makes loops that read each key and value once.

        Of matrix products with one row it makes slower ones, and in bfloat16 torch's kernels take three times as long.
        """
        (B, H, _, D), G, exact = q.shape, k.shape[1], q.dtype
        wide = torch.promote_types(exact, torch.float32)
        q, k, v = q.to(wide).view(B, G, H // G, 1, D), k.to(wide)[:, :, None], v.to(wide)[:, :, None]
        scores = (q * k).sum(-1) * self.d_head**-0.5  # (B, G, H/G, S)
        if (bias := context.bias(k_pos)) is not None:
            scores = scores + bias.view(bias.shape[0], G, H // G, -1)
        scores = scores.masked_fill(~context.attention_mask(k_pos, self.window), float("-inf"))
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        y = (weights[..., None] * v).sum(-2) / weights.sum(-1, keepdim=True)  # (B, G, H/G, D)
        return y.view(B, H, 1, D).to(exact)

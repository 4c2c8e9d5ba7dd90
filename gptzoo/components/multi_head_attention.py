"""Multi-head attention without its core: projections, heads, query/key norms, output gate and KV cache.

`naive`, `sdpa` and the attentions of several plugins derive from `MultiHeadAttention`. They have the same parameters
under the same names, so weights of one can be loaded into the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from gptzoo.component import Inherited, inherited
from gptzoo.components.cache import extend, new_cache
from gptzoo.components.context import ForwardContext
from gptzoo.components.norm import NormLayer
from gptzoo.components.part import FusedBlocks, TensorPlan
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

        def at_width(self, base: Dims, dims: Dims) -> Attention.Config:
            if base.d_head != dims.d_head:
                raise ValueError(
                    f"does not scale its scores with the width of a head, which grows from {base.d_head} to "
                    f"{dims.d_head}. Keep the width of heads, and scale their number"
                )
            return self

    config: Config

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config)
        self.dims = dims


class MultiHeadAttention(Attention):
    """Multi-head attention with grouped queries, sliding window, query/key norms, output gate and dropout.

    A subclass implements `attend`, which computes outputs from queries, keys and values. It may override
    `combine_heads`, which also has the input x (B, T, C), for example for a gate that depends on it.
    """

    supports = frozenset({"rotate", "bias", "documents", "padding", "noncausal", "capture", "d_head"})

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
        """Norm layer for queries and keys, before the rotation (arXiv:2010.04245). Null: none."""
        qk_norm_over: Literal["head", "each_head", "heads"] = "head"
        """Extent of `qk_norm`. "head": each head is normalised, with weights that all heads share (Qwen3, Gemma 3).
        "each_head": each head is normalised, with weights of its own (StableLM, Cohere). "heads": all heads are
        normalised together (OLMo 2)."""
        scale: Annotated[float, Field(gt=0, le=10)] | None = None
        """Factor on the scores of queries and keys, up to 10. Default: 1 / sqrt(d_head). Far above it, a query attends
        to a single token, and scores have no gradient."""
        clip: Annotated[float, Field(ge=1e-3)] | None = None
        """Limit for the entries of queries, keys and values, which are clamped to [-clip, clip] after `qk_norm` (OLMo,
        arXiv:2402.00838). Null: no limit."""
        gate: bool = False
        """Multiply the output of each head by the sigmoid of a linear projection of the input, before the output
        projection (Qiu et al. 2025, Gated Attention for Large Language Models, arXiv:2505.06708)."""

        def problems(self, dims: Dims) -> Iterator[tuple[str, str]]:
            if self.n_kv_heads and dims.n_heads % self.n_kv_heads:
                yield "n_kv_heads", f"must divide the number of query heads, {dims.n_heads}, got {self.n_kv_heads}"
            if self.window and self.window > dims.context_length:
                yield (
                    "window",
                    f"must not exceed context_length {dims.context_length}, got {self.window}; use null for no window",
                )
            if self.qk_norm is None and self.qk_norm_over != "head":
                yield "qk_norm_over", "has no effect without qk_norm. Give qk_norm a norm layer, or remove this option"
            for option in ("dropout", "out_dropout"):
                if not 0 <= (getattr(self, option) or 0) < 1:
                    yield option, "should be at least 0 and below 1"

        def at_width(self, base: Dims, dims: Dims) -> MultiHeadAttention.Config:
            if base.d_head == dims.d_head:
                return self
            scale = self.default_scale(base) if self.scale is None else self.scale
            return self.model_copy(update={"scale": scale * base.d_head / dims.d_head})

        def canonical(self, dims: Dims) -> MultiHeadAttention.Config:
            is_default = self.scale is not None and math.isclose(self.scale, self.default_scale(dims))
            return self.model_copy(update={"scale": None}) if is_default else self

        def default_scale(self, dims: Dims) -> float:
            """Return the factor on the scores in a model of `dims` if `scale` is not given."""
            default: float = dims.d_head**-0.5
            return default

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
        self.q_norm = self._build_qk_norm(self.n_heads)
        self.k_norm = self._build_qk_norm(self.n_kv_heads)
        self.q_factor = None if config.scale is None else config.scale * self.d_head**0.5
        self.gate = nn.Linear(dims.d_model, q_width, bias=config.qkv_bias) if config.gate else None
        self.out = nn.Linear(q_width, dims.d_model, bias=config.out_bias)
        self.out.writes_residual = True  # type: ignore[assignment]
        self.out_dropout = nn.Dropout(config.out_dropout)

    def forward(self, x: Tensor, context: ForwardContext, state: State | None = None) -> Tensor | SublayerOutput:
        B, T, _ = x.shape
        q, k, v = self.qkv(x).split(self.widths, dim=-1)
        q = self._split_heads(q, self.q_norm)  # (B, H, T, D)
        k = self._split_heads(k, self.k_norm)  # (B, G, T, D)
        v = v.view(B, T, self.n_kv_heads, self.d_head)  # (B, T, G, D)
        if (clip := self.config.clip) is not None:
            q, k, v = q.clamp(-clip, clip), k.clamp(-clip, clip), v.clamp(-clip, clip)
        if self.q_factor is not None:
            q = q * self.q_factor  # `attend` multiplies scores by 1 / sqrt(d_head)
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
        y = self.combine_heads(y, x)
        output: Tensor = self.out_dropout(self.out(y))
        if weights is None:
            return output
        return SublayerOutput(output, captures={"attention": weights, "k_pos": k_pos})

    def _build_qk_norm(self, n_heads: int) -> nn.Module | None:
        """Construct the norm of queries or keys with `n_heads` heads. Return None without `qk_norm`."""
        layer, over = self.config.qk_norm, self.config.qk_norm_over
        if layer is None:
            return None
        if over == "each_head":
            return nn.ModuleList(layer.build(self.d_head) for _ in range(n_heads))
        return layer.build(self.d_head if over == "head" else n_heads * self.d_head)

    def _split_heads(self, x: Tensor, norm: nn.Module | None) -> Tensor:
        """Split queries or keys (B, T, H D) into heads (B, H, T, D). A `norm` normalises them."""
        if norm is not None and self.config.qk_norm_over == "heads":
            x = norm(x)
        x = x.view(*x.shape[:2], -1, self.d_head).transpose(1, 2)
        if isinstance(norm, nn.ModuleList):
            return torch.stack([layer(head) for layer, head in zip(norm, x.unbind(1), strict=True)], dim=1)
        if norm is not None and self.config.qk_norm_over == "head":
            x = norm(x)
        return x

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return the outputs (B, H, T, D) for queries (B, H, T, D) and keys and values (B, G, S, D).

        Scores are the products of queries and keys, times 1 / sqrt(D).

        The second value is the attention weights (B, H, T, S) if `context.capture` names "attention", else None.
        """
        raise TypeError(f"{type(self).__name__} does not implement attend")

    def combine_heads(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the outputs (B, H, T, D) of the heads side by side, (B, T, H D), for the output projection."""
        y = y.transpose(1, 2).flatten(2)
        return y if self.gate is None else y * self.gate(x).sigmoid()

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> State:
        n_slots = min(self.window or max_length, max_length)
        shape = (self.n_kv_heads, self.d_head)
        return new_cache(batch_size, n_slots, {"k": shape, "v": shape}, device=device, dtype=dtype)

    def fused_blocks(self) -> Mapping[str, FusedBlocks]:
        return {"qkv.weight": FusedBlocks(tuple(self.widths))}

    def tensor_parallel(self, n: int) -> TensorPlan | None:
        """Split the heads; a shard has some query heads and the key/value heads that they use."""
        if self.config.dropout:
            raise InputError(
                "attention dropout draws one mask for all heads, which processes that each have some of the heads "
                "cannot reproduce. Set the attention's own dropout to 0 (out_dropout may stay)."
            )
        if self.config.qk_norm is not None and self.config.qk_norm_over != "head":
            raise InputError(
                f'qk_norm_over "{self.config.qk_norm_over}" cannot be split over processes. Set it to "head", or train '
                "without tensor parallelism."
            )
        check_divisible(n, [(self.n_heads, "query heads"), (self.n_kv_heads, "key/value heads")])
        plan: dict[str, TensorSplit] = {"qkv": ColumnParallel(tuple(self.widths)), "out": RowParallel()}
        if self.gate is not None:
            plan["gate"] = ColumnParallel()
        if self.config.qk_norm is not None:
            plan |= {"q_norm": Replicated(partial=True), "k_norm": Replicated(partial=True)}
        self.n_heads, self.n_kv_heads = self.n_heads // n, self.n_kv_heads // n
        self.widths = [width // n for width in self.widths]
        return plan

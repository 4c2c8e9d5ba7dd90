"""Multi-head latent attention: the keys and values of all heads are projections of one small latent per token."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

import gptzoo


class LatentAttention(gptzoo.Attention):
    """Multi-head latent attention (MLA): caches kv_rank + rope_dim numbers per token, for any number of heads.

    Queries and keys have two parts: one is projected from a latent and not rotated, the other is rotated, with one key
    that all heads share. In training and prefill, keys and values of every head are computed (the expanded form). In
    decoding, that would repeat the projection of the whole past for each new token. So the projections are absorbed
    into the queries and the output: a query is mapped to the space of the latents, as if all heads shared one key. Both
    forms are the same function. `context.no_past` alone decides which one runs.
    """

    name = "mla"
    paper = "DeepSeek-AI 2024, DeepSeek-V2, arXiv:2405.04434, section 2.1"
    supports = frozenset({"rotate", "bias", "documents", "padding", "noncausal", "capture", "d_head"})
    supports_rollback = True

    class Config(gptzoo.Attention.Config):
        kv_rank: PositiveInt | None = None
        """Width of the latent for keys and values. Default: 4 head widths, as in DeepSeek-V2."""
        q_rank: PositiveInt | None = None
        """Width of a latent for queries, which saves parameters. Null: project queries directly."""
        rope_dim: PositiveInt | None = None
        """Width of the rotated part of queries and keys, an even number. Default: half a head width, as in
        DeepSeek-V2."""
        nope_dim: PositiveInt | None = None
        """Width of the part of queries and keys that is not rotated. Default: a head width."""
        v_dim: PositiveInt | None = None
        """Width of the value of a head. Default: a head width."""
        scale: Annotated[float, Field(gt=0, le=10)] | None = None
        """Factor on the scores, up to 10 (DeepSeek raises it for longer contexts). Default:
        1 / sqrt(nope_dim + rope_dim)."""
        norm: Annotated[gptzoo.NormLayer.Config, gptzoo.Reference("norm_layer")] = gptzoo.by_default("rmsnorm")
        """Norm layer of the latents."""
        dropout: gptzoo.Inherited[float] = gptzoo.inherited("dropout")
        """Dropout probability for attention weights. Default: the model's `dropout`."""
        out_dropout: gptzoo.Inherited[float] = gptzoo.inherited("dropout")
        """Dropout probability for the output, before the residual addition. Default: the model's `dropout`."""
        qkv_bias: gptzoo.Inherited[bool] = gptzoo.inherited("bias")
        """Learn biases in the projections that read the layer's input. Projections that read a latent have none.
        Default: the model's `bias`."""
        out_bias: gptzoo.Inherited[bool] = gptzoo.inherited("bias")
        """Learn a bias in the output projection. Default: the model's `bias`."""

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            if self.rope_dim and self.rope_dim % 2:
                yield "rope_dim", f"should be even, because channels are rotated in pairs, not {self.rope_dim}"
            for option in ("dropout", "out_dropout"):
                if not 0 <= (getattr(self, option) or 0) < 1:
                    yield option, "should be at least 0 and below 1"

        def at_width(self, base: gptzoo.Dims, dims: gptzoo.Dims) -> LatentAttention.Config:
            base_width, width = sum(self.query_widths(base)), sum(self.query_widths(dims))
            if base_width == width:
                return self
            scale = base_width**-0.5 if self.scale is None else self.scale
            return self.model_copy(update={"scale": scale * base_width / width})

        def query_widths(self, dims: gptzoo.Dims) -> tuple[int, int]:
            """Return the widths of a query and key: of the part that is not rotated, and of the rotated one."""
            rope_dim = self.rope_dim or max(2, dims.d_head // 4 * 2)  # even, because channels are rotated in pairs
            return self.nope_dim or dims.d_head, rope_dim

        def canonical(self, dims: gptzoo.Dims) -> LatentAttention.Config:
            nope_dim, rope_dim = self.query_widths(dims)
            is_default = self.scale is not None and math.isclose(self.scale, (nope_dim + rope_dim) ** -0.5)
            return self.model_copy(
                update={
                    "kv_rank": self.kv_rank or 4 * dims.d_head,
                    "rope_dim": rope_dim,
                    "nope_dim": nope_dim,
                    "v_dim": self.v_dim or dims.d_head,
                    "scale": None if is_default else self.scale,
                }
            )

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.n_heads = dims.n_heads
        self.kv_rank = config.kv_rank or 4 * dims.d_head
        self.nope_dim, self.rope_dim = config.query_widths(dims)
        self.v_dim = config.v_dim or dims.d_head
        self.rotary_dim = self.rope_dim

        q_width = self.n_heads * (self.nope_dim + self.rope_dim)
        if config.q_rank is None:
            self.q: nn.Module = nn.Linear(dims.d_model, q_width, bias=config.qkv_bias)
        else:
            down = nn.Linear(dims.d_model, config.q_rank, bias=config.qkv_bias)
            up = nn.Linear(config.q_rank, q_width, bias=False)
            self.q = nn.Sequential(OrderedDict(down=down, norm=config.norm.build(config.q_rank), up=up))
        self.kv_down = nn.Linear(dims.d_model, self.kv_rank + self.rope_dim, bias=config.qkv_bias)
        self.kv_norm = config.norm.build(self.kv_rank)
        # No bias: on keys it would shift all scores of a query equally, on values it would duplicate the bias of `out`.
        self.kv = nn.Linear(self.kv_rank, self.n_heads * (self.nope_dim + self.v_dim), bias=False)
        self.out = nn.Linear(self.n_heads * self.v_dim, dims.d_model, bias=config.out_bias)
        self.out.writes_residual = True  # type: ignore[assignment]
        self.out_dropout = nn.Dropout(config.out_dropout)

    def fused_blocks(self) -> Mapping[str, gptzoo.FusedBlocks]:
        return {
            "kv_down.weight": gptzoo.FusedBlocks((self.kv_rank, self.rope_dim)),
            "kv.weight": gptzoo.FusedBlocks((self.nope_dim, self.v_dim), repeats=self.n_heads),  # head by head
        }

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        B, T, _ = x.shape
        q = self.q(x).view(B, T, self.n_heads, -1).transpose(1, 2)
        q_nope, q_rope = q.split([self.nope_dim, self.rope_dim], dim=-1)
        latent, k_rope = self.kv_down(x).split([self.kv_rank, self.rope_dim], dim=-1)
        latent = self.kv_norm(latent)  # (B, T, kv_rank)
        q_rope, k_rope = context.rotate(q_rope, k_rope[:, None])  # (B, H, T, rope_dim), (B, 1, T, rope_dim)
        k_rope, k_pos = k_rope[:, 0], context.positions
        if state is not None:
            cached, k_pos = gptzoo.extend(
                state,
                {"latent": latent, "k_rope": k_rope},
                context.positions,
                no_past=context.no_past,
                memo=context.memo,
                position_limit=context.position_limit,
            )
            latent, k_rope = cached["latent"], cached["k_rope"]  # (B, S, kv_rank), (B, S, rope_dim)
        if context.no_past:
            y, weights = self._expanded(q_nope, q_rope, latent, k_rope, context, k_pos)  # (B, H, T, v_dim)
        else:
            y, weights = self._absorbed(q_nope, q_rope, latent, k_rope, context, k_pos)
        y = self.out_dropout(self.out(y.transpose(1, 2).reshape(B, T, -1)))
        if weights is None:
            return y
        return gptzoo.SublayerOutput(y, captures={"attention": weights, "k_pos": k_pos})

    def _expanded(
        self,
        q_nope: Tensor,
        q_rope: Tensor,
        latent: Tensor,
        k_rope: Tensor,
        context: gptzoo.ForwardContext,
        k_pos: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend with the keys and values of every head, projected from the latents."""
        B, S, _ = latent.shape
        kv = self.kv(latent).view(B, S, self.n_heads, -1).transpose(1, 2)
        k_nope, v = kv.split([self.nope_dim, self.v_dim], dim=-1)  # (B, H, S, nope_dim), (B, H, S, v_dim)
        q = torch.cat([q_nope, q_rope], dim=-1)
        k = torch.cat([k_nope, k_rope[:, None].expand(-1, self.n_heads, -1, -1)], dim=-1)
        v = F.pad(v, (0, max(0, k.shape[-1] - self.v_dim)))  # torch's fused kernels require equal widths of q, k and v
        # The fastest kernels take no mask. That is exact if nothing but later tokens has to be masked.
        unmasked = context.trivially_causal and context.bias(k_pos) is None and "attention" not in context.capture
        y, weights = self._attend(q, k, v, None if unmasked else _sdpa_mask(context, k_pos, q.dtype), context)
        return y[..., : self.v_dim], weights

    def _absorbed(
        self,
        q_nope: Tensor,
        q_rope: Tensor,
        latent: Tensor,
        k_rope: Tensor,
        context: gptzoo.ForwardContext,
        k_pos: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to the latents c: q (W_k c) as (W_k^T q) c, and the sum of W_v c as W_v of the sum of c.

        All heads have the same keys. So the heads are folded into the queries, and no key is copied.
        """
        H, T = q_nope.shape[1:3]
        up = self.kv.weight.view(H, -1, self.kv_rank)
        up_k, up_v = up.split([self.nope_dim, self.v_dim], dim=1)  # (H, nope_dim, kv_rank), (H, v_dim, kv_rank)
        q = torch.cat([torch.einsum("bhtd,hdr->bhtr", q_nope, up_k), q_rope], dim=-1)
        kv = torch.cat([latent, k_rope], dim=-1)[:, None]  # (B, 1, S, kv_rank + rope_dim), used as keys and as values
        mask = _sdpa_mask(context, k_pos, q.dtype).expand(-1, H, -1, -1)
        y, weights = self._attend(q.flatten(1, 2)[:, None], kv, kv, mask.flatten(1, 2)[:, None], context)
        y = y[:, 0, :, : self.kv_rank].unflatten(1, (H, T))
        y = torch.einsum("bhtr,hdr->bhtd", y, up_v)
        return y, None if weights is None else weights[:, 0].unflatten(1, (H, T))

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, context: gptzoo.ForwardContext
    ) -> tuple[Tensor, Tensor | None]:
        """Return the weighted sums of the values. Also return the attention weights if `capture` names them."""
        # The width is that of a head's keys, also in the absorbed form.
        scale = self.config.scale or (self.nope_dim + self.rope_dim) ** -0.5
        dropout = self.config.dropout if self.training else 0.0
        if mask is not None and "attention" in context.capture:
            scores = q @ k.mT * scale
            scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
            weights = scores.softmax(dim=-1)
            return F.dropout(weights, dropout) @ v, weights
        causal = mask is None and context.causal
        return gptzoo.fused_attention(q, k, v, mask=mask, is_causal=causal, dropout=dropout, scale=scale), None

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        shapes = {"latent": (self.kv_rank,), "k_rope": (self.rope_dim,)}
        return gptzoo.new_cache(batch_size, max_length, shapes, device=device, dtype=dtype)


def _sdpa_mask(context: gptzoo.ForwardContext, k_pos: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mask (B|1, H|1, T, S): bool, or the score bias with -inf where keys are masked."""
    mask, bias = context.attention_mask(k_pos), context.bias(k_pos)
    return mask if bias is None else bias.to(dtype).masked_fill(~mask, float("-inf"))

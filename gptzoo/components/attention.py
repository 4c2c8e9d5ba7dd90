"""The attentions `naive` and `sdpa`: the same function and parameters, step by step and with torch's fused kernels."""

from __future__ import annotations

import contextlib
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gptzoo.components.context import ForwardContext
from gptzoo.components.multi_head_attention import MultiHeadAttention
from gptzoo.components.part import Rng, TensorPlan
from gptzoo.components.tensor_plan import Sharded
from gptzoo.dims import Dims


class NaiveAttention(MultiHeadAttention):
    """Scaled dot-product attention step by step: scores, mask, softmax, weighted sum."""

    name = "naive"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762"

    class Config(MultiHeadAttention.Config):
        softcap: Annotated[float, Field(ge=1e-3)] | None = None
        """Soft cap: scores become softcap * tanh(score / softcap) before biases are added (50 in Gemma 2,
        arXiv:2408.00118). Null: no cap. With a cap, `sdpa` computes scores as `naive` does."""
        sinks: bool = False
        """Learn an attention sink per head: a score that takes part in the softmax but has no value, so that a head can
        attend to nothing (gpt-oss; after Xiao et al. 2023, arXiv:2309.17453). It starts at 0."""

        def canonical(self, dims: Dims) -> MultiHeadAttention.Config:
            config = super().canonical(dims)
            if self.component is not NaiveAttention:
                return config
            options = {name: getattr(config, name) for name in SdpaAttention.Config.model_fields if name != "type"}
            return SdpaAttention.Config.model_construct(type=SdpaAttention.name, **options)

    config: Config

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config, dims)
        self.sinks = nn.Parameter(torch.empty(self.n_heads)) if config.sinks else None

    def initialise(self, rng: Rng) -> None:
        if self.sinks is not None:
            nn.init.zeros_(self.sinks)

    def tensor_parallel(self, n: int) -> TensorPlan | None:
        plan = super().tensor_parallel(n)
        return plan if self.sinks is None else {**(plan or {}), "sinks": Sharded()}

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        group_size = self.n_heads // self.n_kv_heads
        k, v = k.repeat_interleave(group_size, dim=1), v.repeat_interleave(group_size, dim=1)  # (B, H, S, D)
        scores = self._capped(q @ k.transpose(-2, -1) * self.d_head**-0.5)  # (B, H, T, S)
        if (bias := context.bias(k_pos)) is not None:
            scores = scores + bias
        scores = scores.masked_fill(~context.attention_mask(k_pos, self.window), float("-inf"))
        if self.sinks is None:
            weights = scores.softmax(dim=-1)
        else:
            sinks = self.sinks.to(scores.dtype)[:, None, None].expand(*scores.shape[:3], 1)
            weights = torch.cat([scores, sinks], dim=-1).softmax(dim=-1)[..., :-1]
        y = F.dropout(weights, self.config.dropout, self.training).to(v.dtype) @ v  # a float32 bias widens the weights
        return y, weights if "attention" in context.capture else None

    def _capped(self, scores: Tensor) -> Tensor:
        cap = self.config.softcap
        return scores if cap is None else cap * torch.tanh(scores / cap)


class SdpaAttention(NaiveAttention):
    """Scaled dot-product attention with torch's fused kernels. Falls back to `naive` to capture attention weights."""

    name = "sdpa"
    paper = "Dao et al. 2022, FlashAttention, arXiv:2205.14135"

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        decodes_on_cpu = q.shape[2] == 1 and q.is_cpu and not self.training
        captures = "attention" in context.capture
        if not captures and decodes_on_cpu and torch.compiler.is_compiling():
            return self._attend_one_query(q, k, v, context, k_pos), None
        if captures or self.config.softcap is not None:
            return super().attend(q, k, v, context, k_pos)
        bias = context.bias(k_pos)
        # torch's fastest kernels accept no mask tensor. None is needed if only later positions are masked.
        needs_no_mask = (
            context.trivially_causal
            and bias is None
            and self.sinks is None
            and (self.window is None or q.shape[2] <= self.window)
        )
        mask: Tensor | None = None
        if self.sinks is not None:
            k, v, mask = self._with_sink_key(k, v, context.attention_mask(k_pos, self.window), bias)
        elif not needs_no_mask and not (bias is None and context.is_unmasked(k_pos, self.window)):
            mask = context.attention_mask(k_pos, self.window)  # (B|1, 1, T, S)
            if bias is not None:
                mask = bias.to(q.dtype).masked_fill(~mask, float("-inf"))
        widens = decodes_on_cpu and q.dtype == torch.bfloat16 and bias is None and self.sinks is None
        if widens:
            q, k, v = q.float(), k.float(), v.float()  # faster than torch's bfloat16 kernel, by a factor of two
        y = fused_attention(
            q,
            k,
            v,
            mask=mask,
            is_causal=needs_no_mask and context.causal,
            dropout=self.config.dropout if self.training else 0.0,
            enable_gqa=self.n_kv_heads != self.n_heads,
        )
        return y.bfloat16() if widens else y, None

    def _with_sink_key(self, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Append a key and a value of zeros, and return them with the scores to add (B|1, H, T, S + 1).

        The score to add for the appended key is the sink of the head.
        """
        assert self.sinks is not None
        added = mask.new_zeros(mask.shape, dtype=k.dtype) if bias is None else bias.to(k.dtype)
        added = added.masked_fill(~mask, float("-inf"))
        B, _, T, S = added.shape
        sinks = self.sinks.to(k.dtype)[:, None, None].expand(B, -1, T, 1)
        added = torch.cat([added.expand(B, sinks.shape[1], T, S), sinks], dim=-1)
        return F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1)), added

    def _attend_one_query(self, q: Tensor, k: Tensor, v: Tensor, context: ForwardContext, k_pos: Tensor) -> Tensor:
        """Attend with one query per row, as elementwise products and sums.

        torch.compile turns these into loops that read each key and value once. Its matrix products with one row are
        slower, and in bfloat16 torch's kernels take three times as long.
        """
        (B, H, _, D), G, dtype = q.shape, k.shape[1], q.dtype
        wide = torch.promote_types(dtype, torch.float32)
        q, k, v = q.to(wide).view(B, G, H // G, 1, D), k.to(wide)[:, :, None], v.to(wide)[:, :, None]
        scores = self._capped((q * k).sum(-1) * self.d_head**-0.5)  # (B, G, H/G, S)
        if (bias := context.bias(k_pos)) is not None:
            scores = scores + bias.view(bias.shape[0], G, H // G, -1)
        scores = scores.masked_fill(~context.attention_mask(k_pos, self.window), float("-inf"))
        largest = scores.amax(-1, keepdim=True)
        if self.sinks is not None:
            sinks = self.sinks.to(wide).view(G, H // G, 1)
            largest = torch.maximum(largest, sinks)
        weights = (scores - largest).exp()
        total = weights.sum(-1, keepdim=True)
        if self.sinks is not None:
            total = total + (sinks - largest).exp()
        y: Tensor = (weights[..., None] * v).sum(-2) / total  # (B, G, H/G, D)
        return y.view(B, H, 1, D).to(dtype)


def fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return the attention (…, H, T, E) of queries (…, H, T, D) over keys (…, G, S, D) and values (…, G, S, E).

    It selects torch's fused kernels, on a GPU also for grouped heads with a mask. `enable_gqa` allows G below H.

    mask: (…, H|1, T, S), bool or scores to add.
    dropout: dropout probability of the attention weights. Give 0 outside training.
    scale: factor on the scores. Default: D ** -0.5.
    """
    if q.is_cuda:
        return _cuda_attention(q, k, v, mask=mask, is_causal=is_causal, dropout=dropout, scale=scale)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
    )


def _cuda_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    is_causal: bool,
    dropout: float,
    scale: float | None,
) -> Tensor:
    """Compute `fused_attention` on CUDA.

    torch has no fused kernel for grouped heads with a mask, or in float32, and would store all scores (H, T, S). So
    keys and values are repeated for each head of a group, or for a single query, the heads of a group become queries.
    With a mask, cuDNN is not used: for some lengths its gradients are NaN, and it plans anew for each shape.
    """
    n_heads, n_groups = q.shape[-3], k.shape[-3]
    group_size = n_heads // n_groups
    folds = mask is not None and group_size > 1 and q.shape[-2] == 1
    if folds:
        assert mask is not None
        q = q.reshape(*q.shape[:-3], n_groups, group_size, q.shape[-1])
        if mask.shape[-3] > 1:
            mask = mask.reshape(*mask.shape[:-3], n_groups, group_size, mask.shape[-1])
    elif group_size > 1 and (mask is not None or q.dtype == torch.float32):
        k, v = k.repeat_interleave(group_size, dim=-3), v.repeat_interleave(group_size, dim=-3)
    backends = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with contextlib.nullcontext() if mask is None else sdpa_kernel(backends):
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=q.shape[-3] != k.shape[-3],
        )
    return y.flatten(-3, -2).unsqueeze(-2) if folds else y

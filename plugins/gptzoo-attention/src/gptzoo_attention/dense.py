"""Dense attention weights and the mask for torch's fused kernel, shared by the attentions of this package.

The query heads that share a key head form one taller matrix, so that no key is copied.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attention_weights(
    q: Tensor,
    k: Tensor,
    *,
    mask: Tensor,
    bias: Tensor | None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Return the attention weights (B, H, T, S) of queries (B, H, T, D) and keys (B, G, S, D), in float32 or wider.

    mask: (B|1, 1, T, S) bool, True where a query attends to a key.
    bias: (B|1, H, T, S), added to the scores.
    softcap: replaces scores by softcap * tanh(score / softcap).
    sinks: (H,), the score of each head for attending to nothing.
    """
    B, H, T, D = q.shape
    G, S = k.shape[1:3]
    scores = (q.reshape(B, G, H // G * T, D) @ k.mT).view(B, H, T, S)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) * D**-0.5
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is None:
        return scores.softmax(dim=-1)
    column = sinks.to(scores.dtype)[:, None, None].expand(*scores.shape[:3], 1)
    return torch.cat([scores, column], dim=-1).softmax(dim=-1)[..., :-1]


def weighted_sum(weights: Tensor, v: Tensor) -> Tensor:
    """Return the sums (B, H, T, D) of values (B, G, S, D) with weights (B, H, T, S)."""
    B, H, T, S = weights.shape
    G, D = v.shape[1], v.shape[3]
    return (weights.to(v.dtype).reshape(B, G, H // G * T, S) @ v).view(B, H, T, D)


def sdpa_mask(mask: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the `attn_mask` of torch's fused attention: the mask, or the bias with -inf where the mask is False."""
    return mask if bias is None else bias.to(dtype).masked_fill(~mask, float("-inf"))

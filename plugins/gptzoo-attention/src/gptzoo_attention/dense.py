"""What the attentions of this package share: weights spelled out, and the mask that torch's fused kernel takes.

Query heads that share a key head stand side by side, so a group is one taller matrix and no key is copied.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attention_weights(
    q: Tensor, k: Tensor, *, visible: Tensor, bias: Tensor | None, softcap: float | None = None
) -> Tensor:
    """Queries (B, H, T, D), keys (B, G, S, D) -> the softmax of their scores (B, H, T, S), in float32 or better.

    visible: (B|1, 1, T, S) bool; bias: (B|1, H, T, S); softcap: scores become softcap * tanh(score / softcap).
    """
    B, H, T, D = q.shape
    G, S = k.shape[1:3]
    scores = (q.reshape(B, G, H // G * T, D) @ k.mT).view(B, H, T, S)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) * D**-0.5
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    return scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)


def weighted_sum(weights: Tensor, v: Tensor) -> Tensor:
    """Weights (B, H, T, S), values (B, G, S, D) -> (B, H, T, D)."""
    B, H, T, S = weights.shape
    G, D = v.shape[1], v.shape[3]
    return (weights.to(v.dtype).reshape(B, G, H // G * T, S) @ v).view(B, H, T, D)


def score_mask(visible: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What `scaled_dot_product_attention` takes as `attn_mask`: the bool mask, or the bias with -inf where it hides."""
    return visible if bias is None else bias.to(dtype).masked_fill(~visible, float("-inf"))

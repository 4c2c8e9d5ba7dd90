"""Calls of torch's fused attention on CUDA for which a fast kernel exists and is correct."""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def cuda_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Return the attention (…, H, T, E) of queries (…, H, T, D) over keys (…, G, S, D) and values (…, G, S, E) on CUDA.

    torch has no fused kernel for grouped heads with a mask, or in float32, and would store all scores (H, T, S). So
    keys and values are repeated for each head of a group, or for a single query, the heads of a group become queries.
    With a mask, cuDNN is not used: for some lengths its gradients are NaN, and it plans anew for each shape.

    mask: (…, H|1, T, S), bool or scores to add.
    """
    n_heads, n_groups = q.shape[-3], k.shape[-3]
    group_size = n_heads // n_groups
    folds = mask is not None and group_size > 1 and q.shape[-2] == 1
    if folds:
        assert mask is not None
        q = q.squeeze(-2).unflatten(-2, (n_groups, group_size))
        if mask.shape[-3] > 1:
            mask = mask.squeeze(-2).unflatten(-2, (n_groups, group_size))
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

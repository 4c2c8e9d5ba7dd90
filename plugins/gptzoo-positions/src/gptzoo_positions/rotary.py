"""Frequencies and the rotation of channel pairs, shared by the rotary embeddings of this package."""

from __future__ import annotations

import torch
from torch import Tensor


def frequencies(theta: float, width: int, device: torch.device) -> Tensor:
    """Return RoPE's frequencies theta^(-2i / width), (width / 2,) float32, in radians per token, fastest first."""
    return theta ** -(torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the channel pairs (i, i + R/2) among the first R channels of each head.

    x is (B, H, T, D). cos and sin are (B|1, 1, T, R/2) in float32. The other D - R channels are returned unchanged.
    """
    n_pairs = cos.shape[-1]
    a, b, unrotated = x.split([n_pairs, n_pairs, x.shape[-1] - 2 * n_pairs], dim=-1)
    rotated = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)  # in float32 or wider, like cos and sin
    return torch.cat([rotated.to(x.dtype), unrotated], dim=-1)

"""What the rotary positions of this package share: the frequencies, and the turning of pairs."""

from __future__ import annotations

import torch
from torch import Tensor


def frequencies(theta: float, width: int, device: torch.device) -> Tensor:
    """(width / 2,) float32, radians per token, fastest first: theta^(-2i / width)."""
    return theta ** -(torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(B, H, T, D) with its first R channels turned as pairs (i, i + R/2); cos and sin are (B|1, 1, T, R/2) float32."""
    n_pairs = cos.shape[-1]
    a, b, rest = x.split([n_pairs, n_pairs, x.shape[-1] - 2 * n_pairs], dim=-1)
    turned = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)  # in float32 at least, as the tables are
    return torch.cat([turned.to(x.dtype), rest], dim=-1)

"""A sequence in chunks, and how much is left of a state from token to token.

Shapes: N chunks of K tokens; the rest as everywhere (B, T, C, H, D).
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Decay(NamedTuple):
    """What is left of something after the tokens that follow it: factors from 1, all, to 0, nothing."""

    within: Tensor  # (B|1, H|1, N, K, K): at token i, of what token j of the chunk wrote; 0 for j > i
    since_start: Tensor  # (B|1, H|1, N, K, 1): at token i, of the state before the chunk
    to_end: Tensor  # (B|1, H|1, N, K, 1): after the chunk, of what token j wrote
    over: Tensor  # (B|1, H|1, N, 1, 1): after the chunk, of the state before it


def in_chunks(x: Tensor, size: int) -> Tensor:
    """(…, T, D) -> (…, N, K, D), the last chunk filled up with zeros."""
    return F.pad(x, (0, 0, 0, -x.shape[-2] % size)).unflatten(-2, (-1, size))


def decay_in_chunks(log_decay: Tensor, starts: Tensor | None, size: int) -> Decay:
    """Logarithms of each token's own factor (B|1, H|1, T), none above 0, and where documents start (B, T) -> `Decay`.

    Factors multiply as sums of logarithms, and only sums that are not above 0 are ever exponentiated. Nothing is left
    across the start of a document: its logarithm is masked, not infinite, since inf - inf would be NaN.
    """
    fill = (0, -log_decay.shape[-1] % size)
    total = F.pad(log_decay, fill).unflatten(-1, (-1, size)).cumsum(-1)  # (B|1, H|1, N, K)
    within = total[..., :, None] - total[..., None, :]
    since_start, to_end, over = total, total[..., -1:] - total, total[..., -1:]
    unseen = torch.ones(size, size, dtype=torch.bool, device=total.device).triu(1)  # j > i
    if starts is not None:
        begun = F.pad(starts, fill).unflatten(-1, (-1, size)).cumsum(-1)[:, None]  # (B, 1, N, K), in this chunk
        unseen = unseen | (begun[..., :, None] != begun[..., None, :])
        since_start = since_start.masked_fill(begun > 0, float("-inf"))
        to_end = to_end.masked_fill(begun < begun[..., -1:], float("-inf"))
        over = over.masked_fill(begun[..., -1:] > 0, float("-inf"))
    return Decay(
        within.masked_fill(unseen, float("-inf")).exp(),
        since_start.exp()[..., None],
        to_end.exp()[..., None],
        over.exp()[..., None],
    )


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Autocast off: a state that sums over thousands of tokens would lose the small ones in bfloat16."""
    if not torch.amp.is_autocast_available(device.type):  # the meta device knows no autocast
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)

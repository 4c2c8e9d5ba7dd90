"""Chunks of a sequence, and the decay of a recurrent state between the tokens of a chunk.

Shapes: N chunks of K tokens. B, T, C, H and D have their usual meaning: batch, tokens, model width, heads, head width.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Decay(NamedTuple):
    """Factors between 0 and 1 by which later tokens have shrunk a contribution to the state."""

    within: Tensor  # (B|1, H|1, N, K, K): at token i, of the contribution of token j of the same chunk; 0 for j > i
    since_start: Tensor  # (B|1, H|1, N, K, 1): at token i, of the state before the chunk
    to_end: Tensor  # (B|1, H|1, N, K, 1): at the end of the chunk, of the contribution of token j
    over: Tensor  # (B|1, H|1, N, 1, 1): at the end of the chunk, of the state before the chunk


def split_into_chunks(x: Tensor, chunk_size: int) -> Tensor:
    """Split (…, T, D) into chunks (…, N, K, D). The last chunk is padded with zeros."""
    return F.pad(x, (0, 0, 0, -x.shape[-2] % chunk_size)).unflatten(-2, (-1, chunk_size))


def decay_in_chunks(log_decay: Tensor, starts: Tensor | None, chunk_size: int) -> Decay:
    """Return the decay of each chunk, from the logarithm of each token's own decay.

    log_decay is (B|1, H|1, T), at most 0. Decays multiply by adding their logarithms, and only sums that are at most 0
    are exponentiated. `starts` is (B, T) bool, True at the start of a document, or None for a single document. A state
    does not survive the start of a document. At these `starts` the logarithm is masked after the summation, because an
    infinite term would give inf - inf = NaN.
    """
    padding = (0, -log_decay.shape[-1] % chunk_size)
    total = F.pad(log_decay, padding).unflatten(-1, (-1, chunk_size)).cumsum(-1)  # (B|1, H|1, N, K)
    within = total[..., :, None] - total[..., None, :]
    since_start, to_end, over = total, total[..., -1:] - total, total[..., -1:]
    masked = torch.ones(chunk_size, chunk_size, dtype=torch.bool, device=total.device).triu(1)  # j > i
    if starts is not None:
        # Number the documents of the chunk: count the documents that have started up to each token.
        document = F.pad(starts, padding).unflatten(-1, (-1, chunk_size)).cumsum(-1)[:, None]  # (B, 1, N, K)
        masked = masked | (document[..., :, None] != document[..., None, :])
        since_start = since_start.masked_fill(document > 0, float("-inf"))
        to_end = to_end.masked_fill(document < document[..., -1:], float("-inf"))
        over = over.masked_fill(document[..., -1:] > 0, float("-inf"))
    return Decay(
        within.masked_fill(masked, float("-inf")).exp(),
        since_start.exp()[..., None],
        to_end.exp()[..., None],
        over.exp()[..., None],
    )


def disable_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a context manager that disables autocast.

    A state sums over thousands of tokens. In bfloat16, small contributions would be lost.
    """
    if not torch.amp.is_autocast_available(device.type):  # such as the meta device
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)

"""A state that adds: S_t = decay_t S_(t-1) + k_t^T v_t, read by y_t = q_t S_t."""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo_recurrent.chunks import decay_in_chunks, full_precision, in_chunks


def accumulate(
    q: Tensor,  # (B, H, T, D)
    k: Tensor,  # (B, H, T, D)
    v: Tensor,  # (B, H, T, E)
    log_decay: Tensor,  # (B|1, H|1, T), none above 0
    starts: Tensor | None,  # (B, T) bool, the first tokens of documents that follow another
    state: Tensor,  # (B, H, D, E)
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """What the tokens read (B, H, T, E), and the state after them (B, H, D, E)."""
    with full_precision(q.device):
        if q.shape[2] == 1:
            state = state * log_decay.exp()[..., None] + k.mT @ v
            return q @ state, state
        return _by_chunks(q, k, v, log_decay, starts, state, min(chunk, q.shape[2]))


def _by_chunks(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, starts: Tensor | None, state: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    n_tokens = q.shape[2]
    decay = decay_in_chunks(log_decay, starts, size)
    q, k, v = (in_chunks(x, size) for x in (q, k, v))
    written = (k * decay.to_end).mT @ v  # (B, H, N, D, E), by each chunk
    before = []
    for n in range(q.shape[2]):
        before.append(state)
        state = decay.over[:, :, n] * state + written[:, :, n]
    y = (q @ k.mT * decay.within) @ v + (q * decay.since_start) @ torch.stack(before, dim=2)
    return y.flatten(2, 3)[:, :, :n_tokens], state

"""The additive recurrence of linear attention: S_t = decay_t S_(t-1) + k_t^T v_t, with output y_t = q_t S_t."""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo_recurrent.chunks import decay_in_chunks, disable_autocast, split_into_chunks


def accumulate(
    q: Tensor,  # (B, H, T, D)
    k: Tensor,  # (B, H, T, D)
    v: Tensor,  # (B, H, T, E)
    log_decay: Tensor,  # (B|1, H|1, T), at most 0
    starts: Tensor | None,  # (B, T) bool, True for the first token of each document except the first document
    state: Tensor,  # (B, H, D, E)
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """Return the outputs (B, H, T, E) and the final state (B, H, D, E)."""
    with disable_autocast(q.device):
        if q.shape[2] == 1:
            state = state * log_decay.exp()[..., None] + k.mT @ v
            return q @ state, state
        return _by_chunks(q, k, v, log_decay, starts, state, min(chunk_size, q.shape[2]))


def _by_chunks(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, starts: Tensor | None, state: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    n_tokens = q.shape[2]
    decay = decay_in_chunks(log_decay, starts, chunk_size)
    q, k, v = (split_into_chunks(x, chunk_size) for x in (q, k, v))
    chunk_update = (k * decay.to_end).mT @ v  # (B, H, N, D, E), added to the state by each chunk
    states = []  # before each chunk
    for n in range(q.shape[2]):
        states.append(state)
        state = decay.over[:, :, n] * state + chunk_update[:, :, n]
    y = (q @ k.mT * decay.within) @ v + (q * decay.since_start) @ torch.stack(states, dim=2)
    return y.flatten(2, 3)[:, :, :n_tokens], state

"""The gated delta rule: S_t = decay_t (I - beta_t k_t^T k_t) S_(t-1) + beta_t k_t^T v_t, with output y_t = q_t S_t.

It takes two steps. The state S decays. Then the value stored under the key k_t moves towards v_t by the fraction
beta_t. Within a chunk, each correction depends on the corrections before it, which gives a triangular system of K
equations: the WY representation of Yang et al. 2024, arXiv:2406.06484, with the decays of arXiv:2412.06464.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo_recurrent.chunks import decay_in_chunks, disable_autocast, split_into_chunks


def delta_rule(
    q: Tensor,  # (B, H, T, D)
    k: Tensor,  # (B, H, T, D), of length 1
    v: Tensor,  # (B, H, T, E)
    beta: Tensor,  # (B, H, T), between 0 and 2; above 1, the state changes its sign along the key
    log_decay: Tensor,  # (B, H, T), at most 0
    starts: Tensor | None,  # (B, T) bool, True for the first token of each document but the first one
    state: Tensor,  # (B, H, D, E)
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """Return the outputs (B, H, T, E) and the final state (B, H, D, E)."""
    beta = beta[..., None]
    with disable_autocast(q.device):
        if q.shape[2] == 1:
            state = state * log_decay.exp()[..., None]
            state = state + k.mT @ (beta * (v - k @ state))
            return q @ state, state
        return _by_chunks(q, k, v, beta, log_decay, starts, state, min(chunk_size, q.shape[2]))


def _by_chunks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor,
    starts: Tensor | None,
    state: Tensor,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    n_tokens, d_value = v.shape[2:]
    decay = decay_in_chunks(log_decay, starts, chunk_size)
    q, k, v, beta = (split_into_chunks(x, chunk_size) for x in (q, k, v, beta))
    # With decayed states and corrections, correction_i = beta_i (v_i - k_i S - sum over j < i of (k_i . k_j)
    # correction_j). That is linear in S, so the triangular system is solved once for all chunks: the first E columns
    # are the corrections for S = 0, the other D columns are the factor of S. Computing the inverse as a product of
    # powers would be faster, but for similar keys its terms grow like binomials and the result is wrong.
    overlap = beta * (k @ k.mT) * decay.within  # (B, H, N, K, K); the solver reads only below the diagonal
    right_side = torch.cat([beta * v, beta * k * decay.since_start], dim=-1)  # (B, H, N, K, E + D)
    solution = torch.linalg.solve_triangular(overlap, right_side, upper=False, unitriangular=True)
    correction_from_zero, state_factor = solution[..., :d_value], solution[..., d_value:]
    scores = q @ k.mT * decay.within  # (B, H, N, K, K)
    q, k = q * decay.since_start, k * decay.to_end
    y = []
    for n in range(q.shape[2]):
        correction = correction_from_zero[:, :, n] - state_factor[:, :, n] @ state  # (B, H, K, E)
        y.append(q[:, :, n] @ state + scores[:, :, n] @ correction)
        state = decay.over[:, :, n] * state + k[:, :, n].mT @ correction
    return torch.cat(y, dim=2)[:, :, :n_tokens], state

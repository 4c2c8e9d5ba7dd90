"""A state that corrects itself: S_t = decay_t (I - beta_t k_t^T k_t) S_(t-1) + beta_t k_t^T v_t, read by y_t = q_t S_t.

The same in two steps: S decays, then what it holds under the key k_t moves the part beta_t of the way to v_t. In a
chunk every correction depends on those before it, which is a triangular system of K equations (the WY representation
of Yang et al. 2024, arXiv:2406.06484, with the decays of arXiv:2412.06464).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo_recurrent.chunks import decay_in_chunks, full_precision, in_chunks


def delta_rule(
    q: Tensor,  # (B, H, T, D)
    k: Tensor,  # (B, H, T, D), of length 1
    v: Tensor,  # (B, H, T, E)
    beta: Tensor,  # (B, H, T), from 0 to 1
    log_decay: Tensor,  # (B, H, T), none above 0
    starts: Tensor | None,  # (B, T) bool, the first tokens of documents that follow another
    state: Tensor,  # (B, H, D, E)
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """What the tokens read (B, H, T, E), and the state after them (B, H, D, E)."""
    beta = beta[..., None]
    with full_precision(q.device):
        if q.shape[2] == 1:
            state = state * log_decay.exp()[..., None]
            state = state + k.mT @ (beta * (v - k @ state))
            return q @ state, state
        return _by_chunks(q, k, v, beta, log_decay, starts, state, min(chunk, q.shape[2]))


def _by_chunks(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor, starts: Tensor | None, state: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    n_tokens, d_value = v.shape[2:]
    decay = decay_in_chunks(log_decay, starts, size)
    q, k, v, beta = (in_chunks(x, size) for x in (q, k, v, beta))
    # Correction i is beta_i (v_i - k_i S - the sum over j < i of (k_i . k_j) correction j), S and corrections decayed:
    # a triangular system, solved for S = 0 and, in the columns behind, for what each S takes off. Its inverse as a
    # product of powers would be faster and wrong: among like keys they grow as binomials do.
    overlap = beta * (k @ k.mT) * decay.within  # (B, H, N, K, K), of which the solver reads what is below the diagonal
    alone = torch.cat([beta * v, beta * k * decay.since_start], dim=-1)  # (B, H, N, K, E + D)
    solved = torch.linalg.solve_triangular(overlap, alone, upper=False, unitriangular=True)
    value, taken = solved[..., :d_value], solved[..., d_value:]
    seen = q @ k.mT * decay.within  # (B, H, N, K, K)
    q, k = q * decay.since_start, k * decay.to_end
    y = []
    for n in range(q.shape[2]):
        correction = value[:, :, n] - taken[:, :, n] @ state  # (B, H, K, E)
        y.append(q[:, :, n] @ state + seen[:, :, n] @ correction)
        state = decay.over[:, :, n] * state + k[:, :, n].mT @ correction
    return torch.cat(y, dim=2)[:, :, :n_tokens], state

"""Which keys a query may see. Every mask in the model comes from positions, in this one function."""

from __future__ import annotations

from torch import Tensor


def attention_mask(
    q_pos: Tensor,  # (B|1, T), -1 is padding
    k_pos: Tensor,  # (B|1, S), -1 is padding or an empty cache slot
    *,
    causal: bool = True,
    window: int | None = None,
    documents: Tensor | None = None,  # (B, T), for T = S only
) -> Tensor:
    """(B|1, 1, T, S) bool: key is not padding, not in the future, fewer than `window` back, in the same document.

    A padding query sees everything, so that no row is empty: a softmax over nothing would be NaN.
    """
    q, k = q_pos[:, None, :, None], k_pos[:, None, None, :]
    mask = k >= 0
    if causal:
        mask = mask & (k <= q)
    if window is not None:
        mask = mask & ((q - k).abs() < window)
    if documents is not None:
        mask = mask & (documents[:, None, :, None] == documents[:, None, None, :])
    return mask | (q < 0)

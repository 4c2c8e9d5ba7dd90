"""The attention mask: the one function that decides which keys a query may attend to."""

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
    """Return the mask (B|1, 1, T, S) bool: True where a query may attend to a key.

    Such a key is not padding, and not in the future if attention is causal. With `window`, it is less than `window`
    positions away. With `documents`, it is in the same document. A padding query attends to all keys, because a softmax
    over an empty set would be NaN.
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

"""The order of training data as a pure function of (seed, sample number): nothing to save, nothing to lose.

Each epoch cuts the text into windows that start at an offset of its own, and visits them in the order of a keyed
bijection. So an epoch sees (nearly) every token once, no epoch cuts the text alike, and resuming is arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gptzoo.errors import DataError
from gptzoo.utils.seeds import derive

_ROUNDS = 6


class Order:
    """Where the samples of a run start: windows of `length` inputs and as many targets, one token later."""

    def __init__(self, n_tokens: int, length: int, seed: int):
        """Raises DataError when the text has no room for a window at every offset."""
        self.length = length
        self.seed = seed
        self.n_windows = (n_tokens - length) // length  # the same in every epoch, whatever its offset
        if self.n_windows < 1:
            raise DataError(
                f"the training text has {n_tokens} tokens; with context_length {length} it needs {2 * length} or more: "
                "give more text or a shorter context"
            )

    def starts(self, first: int, count: int) -> np.ndarray:
        """Token offsets, int64 (count,), of samples number first, first + 1, … of the endless sequence of samples."""
        samples = np.arange(first, first + count, dtype=np.int64)
        epochs, indices = np.divmod(samples, self.n_windows)
        starts = np.empty(count, dtype=np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            offset = derive(self.seed, int(epoch), "offset") % self.length
            windows = permute(indices[here], self.n_windows, derive(self.seed, int(epoch), "order"))
            starts[here] = offset + windows * self.length
        return starts


def windows(tokens: np.ndarray, starts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, int64 (B, length) each, of the windows at `starts`."""
    rows = np.stack([tokens[start : start + length + 1] for start in starts.tolist()]).astype(np.int64)
    return rows[:, :-1], rows[:, 1:]


def evaluation_windows(n_tokens: int, length: int) -> Iterator[tuple[int, int]]:
    """(start, size) of contiguous windows that predict every token but the first once; the last may be shorter."""
    for start in range(0, n_tokens - 1, length):
        yield start, min(length, n_tokens - 1 - start)


def permute(indices: np.ndarray, n: int | np.ndarray, key: int, salt: int | np.ndarray = 0) -> np.ndarray:
    """The images of `indices` under the bijection of range(n) that `key` and `salt` name, int64.

    `n` and `salt` may be arrays, one for each index: it is then a bijection among the indices that have both in common.

    A Feistel network over the next even number of bits; an image that falls outside of range(n) is permuted again
    until it falls inside ("cycle walking"), which keeps it a bijection and takes fewer than four rounds on average.
    """
    n = np.broadcast_to(n, indices.shape)
    salt = np.broadcast_to(np.asarray(salt, dtype=np.uint64), indices.shape)
    bits = np.frexp((n - 1).astype(np.float64))[1]  # of n - 1, exact below 2^53
    half = np.maximum(1, (bits + 1) // 2).astype(np.uint64)
    low = (np.uint64(1) << half) - np.uint64(1)
    keys = [np.uint64(derive(key, round_, "round")) for round_ in range(_ROUNDS)]
    images = indices.astype(np.uint64)
    outside = np.ones(len(images), dtype=bool)
    while outside.any():
        here, mask = half[outside], low[outside]
        left, right = images[outside] >> here, images[outside] & mask
        for round_key in keys:
            left, right = right, left ^ (mix(right ^ round_key ^ salt[outside]) & mask)
        images[outside] = (left << here) | right
        outside = images >= n.astype(np.uint64)
    return images.astype(np.int64)


def mix(x: np.ndarray) -> np.ndarray:
    """A 64-bit finaliser (splitmix64) of uint64: each input bit changes about half of the output bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

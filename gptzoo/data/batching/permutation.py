"""Random permutations that are computed index by index, without a table."""

from __future__ import annotations

import numpy as np

from gptzoo.utils.seeds import derive_seed

_ROUNDS = 6


def permute(indices: np.ndarray, n: int | np.ndarray, key: int, salt: int | np.ndarray = 0) -> np.ndarray:
    """Return the images of `indices`, int64, under a random bijection of range(n) that `key` and `salt` select.

    `n` and `salt` may be arrays with one entry per index. The function is then a bijection on each set of indices that
    share both values.

    The bijection is a Feistel network over the next even number of bits. An image outside range(n) is permuted again
    until it lies inside ("cycle walking"), which takes fewer than four rounds on average.
    """
    n = np.broadcast_to(n, indices.shape)
    salt = np.broadcast_to(np.asarray(salt, dtype=np.uint64), indices.shape)
    bits = np.frexp((n - 1).astype(np.float64))[1]  # bit length of n - 1, exact below 2^53
    half_bits = np.maximum(1, (bits + 1) // 2).astype(np.uint64)
    half_mask = (np.uint64(1) << half_bits) - np.uint64(1)
    round_keys = [np.uint64(derive_seed(key, round_, "round")) for round_ in range(_ROUNDS)]
    images = indices.astype(np.uint64)
    outside = np.ones(len(images), dtype=bool)
    while outside.any():
        shift, mask = half_bits[outside], half_mask[outside]
        left, right = images[outside] >> shift, images[outside] & mask
        for round_key in round_keys:
            left, right = right, left ^ (splitmix64(right ^ round_key ^ salt[outside]) & mask)
        images[outside] = (left << shift) | right
        outside = images >= n.astype(np.uint64)
    return images.astype(np.int64)


def splitmix64(x: np.ndarray) -> np.ndarray:
    """Mix the bits of uint64 values with the finaliser of SplitMix64: each input bit changes about half of the bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed

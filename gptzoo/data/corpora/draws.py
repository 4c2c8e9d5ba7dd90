"""Random draws for one generated sample, the same on every machine and with every version of numpy."""

from __future__ import annotations

import numpy as np

from gptzoo.utils.seeds import derive_seed


class Draws:
    """A source of random numbers that depends only on its `parts`, such as (seed, split, index).

    numpy guarantees the raw bits of a generator in every version, but not its shuffles and choices, so those are
    computed here.
    """

    def __init__(self, *parts: int | str):
        self._bits = np.random.Philox(key=np.array([derive_seed(*parts), 0], dtype=np.uint64))

    def uniform(self, n: int) -> np.ndarray:
        """Return `n` numbers in [0, 1), float64."""
        raw: np.ndarray = self._bits.random_raw(n)
        return (raw >> np.uint64(11)) * 2.0**-53

    def below(self, limit: int, n: int) -> np.ndarray:
        """Return `n` integers in [0, limit), int64. The limit must be below 2**32, where the bias is negligible."""
        return (self.uniform(n) * limit).astype(np.int64)

    def one_below(self, limit: int) -> int:
        """Return an integer in [0, limit)."""
        return int(self.below(limit, 1)[0])

    def permutation(self, n: int) -> np.ndarray:
        """Return the integers in [0, n) in random order, int64."""
        return np.argsort(self._bits.random_raw(n), kind="stable").astype(np.int64)

    def distinct(self, limit: int, n: int) -> np.ndarray:
        """Return `n` different integers in [0, limit), in random order, int64."""
        if 4 * n > limit:
            return self.permutation(limit)[:n]
        chosen: dict[int, None] = {}  # in the order in which they were drawn
        while len(chosen) < n:
            chosen.update(dict.fromkeys(self.below(limit, n - len(chosen)).tolist()))
        return np.fromiter(chosen, dtype=np.int64, count=n)

    def below_without(self, limit: int, excluded: np.ndarray, n: int) -> np.ndarray:
        """Return `n` integers in [0, limit) that are none of the different integers `excluded`, int64."""
        drawn = self.below(limit - len(excluded), n)
        # The number at place i of those that are left is i plus the number of excluded ones before it.
        places = np.sort(excluded) - np.arange(len(excluded))
        return drawn + np.searchsorted(places, drawn, side="right")

    def distinct_by_weight(self, weights: np.ndarray, n: int) -> np.ndarray:
        """Return `n` different indices of `weights`, as if drawn one after the other in proportion to the weights.

        An exponential time of rate w for each index gives this order (Efraimidis and Spirakis 2006).
        """
        times = -np.log1p(-self.uniform(len(weights))) / weights
        return np.argsort(times, kind="stable")[:n].astype(np.int64)

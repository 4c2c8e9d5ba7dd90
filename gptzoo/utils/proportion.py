"""A proportion of successes, with its exact binomial confidence interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Proportion:
    """The number of hits among `n` independent trials, such as right answers."""

    hits: int
    n: int

    @property
    def value(self) -> float:
        """The share of hits; 0 without trials."""
        return self.hits / self.n if self.n else 0.0

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the exact confidence interval of the probability of a hit (Clopper and Pearson 1934)."""
        from scipy.special import betaincinv

        tail = (1 - confidence) / 2
        low = float(betaincinv(self.hits, self.n - self.hits + 1, tail)) if self.hits else 0.0
        high = float(betaincinv(self.hits + 1, self.n - self.hits, 1 - tail)) if self.hits < self.n else 1.0
        return low, high

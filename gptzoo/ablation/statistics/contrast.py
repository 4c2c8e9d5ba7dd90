"""Differences of means: their standard errors, intervals and p values, paired by seed or after Welch.

A contrast is a sum of means with weights that add up to 0: two variants with 1 and -1, or the cells of a factorial
design. Means and deviations are exact sums of fractions, so equal numbers have no spread at all, not one of 1e-17.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy import stats

from gptzoo.ablation.records.analysis import Estimate

Endpoints = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Contrast:
    """An estimated difference, and how well it is known."""

    value: float
    error: float | None  # standard error; None where one value a side tells nothing of the spread
    df: float  # degrees of freedom of the error
    n: int  # seeds that it rests on: pairs, or those of the smaller side
    paired: bool
    sd: float | None  # of what is averaged: of paired differences, or of one run, pooled over the sides

    @property
    def p(self) -> float | None:
        """Of no difference, two-sided. 1 and 0 where nothing varies."""
        if self.error is None:
            return None
        if self.error == 0:
            return float(self.value == 0)
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.df))

    def interval(self, level: float) -> tuple[float, float] | tuple[None, None]:
        """Both ends of the two-sided interval that misses the truth with probability `level`."""
        if self.error is None:
            return None, None
        if self.error == 0:
            return self.value, self.value
        half = float(stats.t.isf(level / 2, self.df)) * self.error
        return self.value - half, self.value + half

    def estimate(self, level: float) -> Estimate:
        low, high = self.interval(level)
        return Estimate(self.value, low, high, self.n, self.sd)


def contrast(cells: Sequence[tuple[float, Endpoints]], *, paired: bool) -> Contrast | None:
    """The sum of the cells' means with their weights; None where a cell has no value.

    Paired, the sum is taken within each seed that all cells have, and Student's t asks whether its mean is 0. With
    fewer than two such seeds, and not paired, cells are independent samples, each of its own variance (Welch 1947).
    """
    if not all(values for _, values in cells):
        return None
    shared = sorted(set.intersection(*(set(values) for _, values in cells))) if paired else []
    if len(shared) > 1 or (shared and min(len(values) for _, values in cells) < 2):
        return _within(cells, shared)
    return _between(cells)


def _within(cells: Sequence[tuple[float, Endpoints]], seeds: Sequence[int]) -> Contrast:
    sums = [math.fsum(weight * values[seed] for weight, values in cells) for seed in seeds]
    if len(sums) < 2:
        return Contrast(sums[0], None, 0, 1, True, None)
    sd = stdev(sums)
    return Contrast(mean(sums), sd / math.sqrt(len(sums)), len(sums) - 1, len(sums), True, sd)


def _between(cells: Sequence[tuple[float, Endpoints]]) -> Contrast:
    value = math.fsum(weight * mean(values.values()) for weight, values in cells)
    n = min(len(values) for _, values in cells)
    if n < 2:
        return Contrast(value, None, 0, n, False, None)
    parts = [
        (abs(weight) * stdev(values.values()) / math.sqrt(len(values)), len(values) - 1) for weight, values in cells
    ]
    largest = max(part for part, _ in parts)
    if largest == 0:
        return Contrast(value, 0.0, sum(df for _, df in parts), n, False, 0.0)
    shares = [((part / largest) ** 2, df) for part, df in parts]  # relative, so that their squares do not underflow
    total = sum(share for share, _ in shares)
    df = total**2 / sum(share**2 / df for share, df in shares)
    return Contrast(value, largest * math.sqrt(total), df, n, False, pooled_sd([values for _, values in cells]))


def pooled_sd(samples: Sequence[Endpoints]) -> float | None:
    """The standard deviation of one value about the mean of its own sample; None where no sample has two values."""
    several = [list(sample.values()) for sample in samples if len(sample) > 1]
    if not several:
        return None
    deviations = [stdev(values) for values in several]
    df = [len(values) - 1 for values in several]
    return math.sqrt(math.fsum(n * sd**2 for n, sd in zip(df, deviations, strict=True)) / sum(df))


def mean_estimate(values: Sequence[float], alpha: float) -> Estimate:
    """A mean with its interval by Student's t, for at least one value."""
    if len(values) < 2:
        return Estimate(values[0], None, None, 1, None)
    sd = stdev(values)
    half = float(stats.t.isf(alpha / 2, len(values) - 1)) * sd / math.sqrt(len(values))
    middle = mean(values)
    return Estimate(middle, middle - half, middle + half, len(values), sd)


def noise(samples: Sequence[Endpoints], alpha: float) -> Estimate | None:
    """The pooled standard deviation over seeds, its interval by chi-squared; None where no sample has two values."""
    sd = pooled_sd(samples)
    if sd is None:
        return None
    n = sum(len(sample) for sample in samples if len(sample) > 1)
    df = n - sum(len(sample) > 1 for sample in samples)
    low, high = (sd * math.sqrt(df / stats.chi2.isf(tail, df)) for tail in (alpha / 2, 1 - alpha / 2))
    return Estimate(sd, float(low), float(high), n, None)

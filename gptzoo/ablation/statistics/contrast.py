"""Contrasts of means with standard errors, intervals and p values: paired by seed (Student) or independent (Welch).

A contrast is a weighted sum of means whose weights add up to 0: two variants with weights 1 and -1, or the cells of a
factorial design. Means and standard deviations are computed with exact sums, so equal losses have a spread of exactly 0
and not of 1e-17.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy import stats

from gptzoo.ablation.records.analysis import Estimate

Endpoints = Mapping[int, float]  # the final metric by seed


@dataclass(frozen=True)
class Contrast:
    """An estimated difference with its standard error."""

    value: float
    error: float | None  # standard error; None if there is only one value per side
    df: float  # degrees of freedom of the standard error
    n: int  # number of pairs, or number of seeds of the smaller side
    paired: bool
    sd: float | None  # standard deviation of the paired differences, or of one run, pooled over the sides

    @property
    def p(self) -> float | None:
        """The two-sided p value of no difference. If nothing varies, it is 1 for a difference of 0, and 0 otherwise."""
        if self.error is None:
            return None
        if self.error == 0:
            return float(self.value == 0)
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.df))

    def interval(self, level: float) -> tuple[float, float] | tuple[None, None]:
        """Return the two-sided confidence interval with error probability `level`, such as 0.05."""
        if self.error is None:
            return None, None
        if self.error == 0:
            return self.value, self.value
        half_width = float(stats.t.isf(level / 2, self.df)) * self.error
        return self.value - half_width, self.value + half_width

    def estimate(self, level: float) -> Estimate:
        """Return the value with its confidence interval."""
        low, high = self.interval(level)
        return Estimate(self.value, low, high, self.n, self.sd)


def estimate_contrast(cells: Sequence[tuple[float, Endpoints]], *, paired: bool) -> Contrast | None:
    """Estimate a weighted sum of cell means. Return None if a cell has no value.

    cells: `(weight, endpoints)` of each cell.
    paired: compute the sum within each seed that all cells share, and test its mean with Student's t. With fewer than
        two shared seeds, and if False, cells are independent samples with separate variances (Welch 1947).
    """
    if not all(values for _, values in cells):
        return None
    if paired and can_pair(*(values for _, values in cells)):
        return _paired_contrast(cells, sorted(set.intersection(*(set(values) for _, values in cells))))
    return _welch_contrast(cells)


def can_pair(*seeds: Collection[int]) -> bool:
    """Return True if cells with these seeds are compared within the seeds that all of them share.

    Two seeds are needed for an interval. One is enough if a cell has no more, because no test gives an interval then.
    """
    n_shared = len(set.intersection(*map(set, seeds)))
    return n_shared > 1 or (n_shared == 1 and min(map(len, seeds)) == 1)


def _paired_contrast(cells: Sequence[tuple[float, Endpoints]], seeds: Sequence[int]) -> Contrast:
    sums = [math.fsum(weight * values[seed] for weight, values in cells) for seed in seeds]
    if len(sums) < 2:
        return Contrast(sums[0], None, 0, 1, True, None)
    sd = stdev(sums)
    return Contrast(mean(sums), sd / math.sqrt(len(sums)), len(sums) - 1, len(sums), True, sd)


def _welch_contrast(cells: Sequence[tuple[float, Endpoints]]) -> Contrast:
    value = math.fsum(weight * mean(values.values()) for weight, values in cells)
    n = min(len(values) for _, values in cells)
    if n < 2:
        return Contrast(value, None, 0, n, False, None)
    errors = [
        (abs(weight) * stdev(values.values()) / math.sqrt(len(values)), len(values) - 1) for weight, values in cells
    ]
    largest = max(error for error, _ in errors)
    if largest == 0:
        return Contrast(value, 0.0, sum(df for _, df in errors), n, False, 0.0)
    variances = [((error / largest) ** 2, df) for error, df in errors]  # relative, so that squares do not underflow
    total = sum(variance for variance, _ in variances)
    df = total**2 / sum(variance**2 / df for variance, df in variances)  # Welch-Satterthwaite
    return Contrast(value, largest * math.sqrt(total), df, n, False, pooled_sd([values for _, values in cells]))


def pooled_sd(samples: Sequence[Endpoints]) -> float | None:
    """Return the pooled standard deviation within samples. Return None if no sample has two values."""
    repeated = [list(sample.values()) for sample in samples if len(sample) > 1]
    if not repeated:
        return None
    deviations = [stdev(values) for values in repeated]
    df = [len(values) - 1 for values in repeated]
    return math.sqrt(math.fsum(n * sd**2 for n, sd in zip(df, deviations, strict=True)) / sum(df))


def mean_estimate(values: Sequence[float], alpha: float) -> Estimate:
    """Return the mean of at least one value with its Student's t interval at level 1 - alpha."""
    if len(values) < 2:
        return Estimate(values[0], None, None, 1, None)
    sd = stdev(values)
    half_width = float(stats.t.isf(alpha / 2, len(values) - 1)) * sd / math.sqrt(len(values))
    middle = mean(values)
    return Estimate(middle, middle - half_width, middle + half_width, len(values), sd)


def estimate_noise(samples: Sequence[Endpoints], alpha: float) -> Estimate | None:
    """Return the pooled standard deviation over seeds with its chi-squared interval.

    Return None if no sample has two values.
    """
    sd = pooled_sd(samples)
    if sd is None:
        return None
    n = sum(len(sample) for sample in samples if len(sample) > 1)
    df = n - sum(len(sample) > 1 for sample in samples)
    low, high = (sd * math.sqrt(df / stats.chi2.isf(tail, df)) for tail in (alpha / 2, 1 - alpha / 2))
    return Estimate(sd, float(low), float(high), n, None)

"""Statistical power: the difference that n seeds detect, and the seeds that a difference needs.

Noise is assumed to be normal with the same standard deviation in all variants. `sd` is the standard deviation of one
run over seeds, or, for paired runs, of the difference within a seed. If only the former is known, use sqrt(2) times it
for paired runs, which is conservative: it assumes that pairing gains nothing.

The power of Student's t test follows from the noncentral t distribution (Owen, Biometrika 52, 1965; Cohen, Statistical
Power Analysis for the Behavioral Sciences, 1988). The power of Welch's test is averaged over the distribution of its
degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import optimize, special, stats

from gptzoo.errors import InputError

MAX_SEEDS = 1_000_000  # end of the search for a number of seeds
_QUADRATURE_NODES = 16  # of the Gauss-Jacobi rule over the variance ratio; the result is exact to 1e-6 or better
_LARGE_SAMPLE = 200  # seeds per side above which Welch's test is computed as Student's, which it then equals


def detectable_difference(
    sd: float,
    n: int | tuple[int, int],
    *,
    n_comparisons: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
    paired: bool = False,
) -> float:
    """Return the smallest true difference that n seeds per side detect with the given power.

    n: seeds per side; a tuple gives the two sides separately.
    n_comparisons: each comparison is tested at alpha / n_comparisons, the first step of Holm's correction, so the
        result holds for the comparison with the strictest level.

    Returns infinity for a single seed. Raises InputError for invalid arguments.
    """
    _check_arguments(sd, n_comparisons, alpha, power)
    sides = (n, n) if isinstance(n, int) else n
    if min(sides) < 1:
        raise InputError(f"{n} seeds: give at least 1")
    if min(sides) < 2:
        return math.inf
    return sd * _detectable_in_sds(sides, alpha / n_comparisons, power, paired)


def power_of(
    difference: float,
    sd: float,
    n: int | tuple[int, int],
    *,
    n_comparisons: int = 1,
    alpha: float = 0.05,
    paired: bool = False,
) -> float:
    """Return the probability that n seeds per side detect a true difference with the right sign."""
    _check_arguments(sd, n_comparisons, alpha)
    sides = (n, n) if isinstance(n, int) else n
    return _power(abs(difference), sd, sides, alpha / n_comparisons, paired)


def seeds_needed(
    difference: float,
    sd: float,
    *,
    n_comparisons: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
    paired: bool = False,
) -> int | None:
    """Return the smallest number of seeds per side, at least 2, that detects a true difference with the given power.

    Returns None if `MAX_SEEDS` would not, as for a difference of 0. Raises InputError for invalid arguments.
    """
    _check_arguments(sd, n_comparisons, alpha, power)
    level = alpha / n_comparisons
    return _smallest_n(lambda n: _power(abs(difference), sd, (n, n), level, paired) >= power)


def seeds_for_equivalence(
    margin: float,
    sd: float,
    *,
    difference: float = 0.0,
    n_comparisons: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
    paired: bool = False,
) -> int | None:
    """Return the smallest number of seeds per side that gives the verdict "same" with the given power.

    The verdict is "same" if the whole interval lies within the margin (Schuirmann 1987).

    difference: the true difference.

    Returns None if `MAX_SEEDS` would not be enough, as for a difference of at least the margin. Raises InputError for
    invalid arguments.
    """
    _check_arguments(sd, n_comparisons, alpha, power)
    level, difference = alpha / n_comparisons, abs(difference)
    if difference >= margin:
        return None
    return _smallest_n(lambda n: _power_of_equivalence(difference, margin, sd, n, level, paired) >= power)


@cache
def _detectable_in_sds(n: tuple[int, int], level: float, power: float, paired: bool) -> float:
    """Return the detectable difference in standard deviations."""

    def excess_power(difference: float) -> float:
        return _power(difference, 1.0, n, level, paired) - power

    high = 1.0
    while excess_power(high) < 0:
        high *= 2
    difference: float = optimize.brentq(excess_power, 0.0, high, xtol=1e-12, rtol=1e-9)
    return difference


def _power(difference: float, sd: float, n: tuple[int, int], level: float, paired: bool) -> float:
    if min(n) < 2:
        return 0.0
    if sd == 0:
        return float(difference > 0)
    if paired:
        df = min(n) - 1
        return float(stats.nct.sf(stats.t.isf(level / 2, df), df, difference / sd * math.sqrt(min(n))))
    df = n[0] + n[1] - 2
    noncentrality = difference / sd / math.sqrt(1 / n[0] + 1 / n[1])
    if min(n) > _LARGE_SAMPLE:
        return float(stats.nct.sf(stats.t.isf(level / 2, df), df, noncentrality))
    critical, weights = _welch_critical_values(n, level)
    return float(weights @ stats.nct.sf(critical, df, noncentrality))


@cache
def _welch_critical_values(n: tuple[int, int], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of *Student's* t at which Welch's test rejects, as quadrature nodes, and their weights.

    For normal noise with equal variances, the first side's share u of the sum of squares is Beta distributed and
    independent of Student's t. Given u, Welch's statistic is a multiple of Student's, with known degrees of freedom.
    """
    a, b = n[0] - 1, n[1] - 1
    x, weights = special.roots_jacobi(_QUADRATURE_NODES, b / 2 - 1, a / 2 - 1)
    u = (1 + x) / 2
    first, second = u / a / n[0], (1 - u) / b / n[1]  # squared standard errors, relative to the sum of squares
    df = (first + second) ** 2 / (first**2 / a + second**2 / b)
    student = (1 / n[0] + 1 / n[1]) / (a + b)
    return stats.t.isf(level / 2, df) * np.sqrt((first + second) / student), weights / weights.sum()


def _power_of_equivalence(difference: float, margin: float, sd: float, n: int, level: float, paired: bool) -> float:
    if sd == 0:
        return 1.0
    df, error = (n - 1, sd / math.sqrt(n)) if paired else (2 * n - 2, sd * math.sqrt(2 / n))
    # Ratios of the sample standard deviation to the true one, at the midpoints of 256 intervals of equal probability.
    ratio = np.sqrt(stats.chi2.ppf((np.arange(256) + 0.5) / 256, df) / df)
    limit = margin - stats.t.isf(level / 2, df) * error * ratio  # largest estimate with the interval inside the margin
    inside = stats.norm.cdf((limit - difference) / error) - stats.norm.cdf((-limit - difference) / error)
    return float(np.maximum(inside, 0.0).mean())


def _smallest_n(is_enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number from 2 to `MAX_SEEDS` that is enough, by bisection. `is_enough` must be monotonic."""
    high = 2
    while not is_enough(high):
        high *= 2
        if high > MAX_SEEDS:
            return None
    low = high // 2  # not enough, or 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _check_arguments(sd: float, n_comparisons: int, alpha: float, power: float = 0.5) -> None:
    if not 0 <= sd < math.inf:
        raise InputError(f"standard deviation {sd:g}: give a finite number of at least 0")
    if n_comparisons < 1:
        raise InputError(f"{n_comparisons} comparisons: give at least 1")
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise InputError(f"{name} {value:g}: give a number between 0 and 1")
    if power <= alpha / 2:
        raise InputError(f"power {power:g}: give more than alpha / 2 = {alpha / 2:g}, which chance alone reaches")

"""How small a difference so many seeds find, and how many seeds a difference needs; exact, by the noncentral t.

Noise is normal with one standard deviation. Welch's test, whose degrees of freedom are themselves random, is averaged
over them. `sd` is that of one run over seeds, and for paired runs that of the difference within a seed; where only the
former is known, sqrt(2) times it is the latter if pairing gains nothing, and on the safe side.

Cohen, Statistical Power Analysis for the Behavioral Sciences (1988); Owen, Biometrika 52 (1965), for the noncentral t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import optimize, special, stats

from gptzoo.errors import InputError

MOST_SEEDS = 1_000_000  # where the search ends: nobody trains so many
_NODES = 16  # of the Gauss-Jacobi rule over the split of the variance; exact to 1e-6 and better
_ALIKE = 200  # seeds a side from which both sides' sample variances agree so well that Welch's test is Student's


def detectable_difference(
    sd: float,
    n: int | tuple[int, int],
    *,
    n_comparisons: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
    paired: bool = False,
) -> float:
    """The smallest true difference that is found with this power by n seeds a side (a pair: n of each side).

    Each of the comparisons is held to alpha / n_comparisons, as the first step of Holm's is: the figure holds for the
    least favoured. Infinite with a single seed, which tells nothing of the spread. Raises InputError for impossible
    arguments.
    """
    _check(sd, n_comparisons, alpha, power)
    sides = (n, n) if isinstance(n, int) else n
    if min(sides) < 1:
        raise InputError(f"{n} seeds: give at least 1")
    if min(sides) < 2:
        return math.inf
    return sd * _detectable(sides, alpha / n_comparisons, power, paired)


def power_of(
    difference: float,
    sd: float,
    n: int | tuple[int, int],
    *,
    n_comparisons: int = 1,
    alpha: float = 0.05,
    paired: bool = False,
) -> float:
    """How often a true difference of this size is found, and in its own direction, by n seeds a side."""
    _check(sd, n_comparisons, alpha)
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
    """The fewest seeds a side, at least 2, that find a true difference of this size with this power.

    None where a million would not, as for no difference at all. Raises InputError for impossible arguments.
    """
    _check(sd, n_comparisons, alpha, power)
    level = alpha / n_comparisons
    return _fewest(lambda n: _power(abs(difference), sd, (n, n), level, paired) >= power)


def seeds_for_same(
    margin: float,
    sd: float,
    *,
    difference: float = 0.0,
    n_comparisons: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
    paired: bool = False,
) -> int | None:
    """The fewest seeds a side with which a true difference inside the margin is told to be there, with this power.

    That is, whose interval lies inside it whole (Schuirmann 1987). None where a million would not, as for a difference
    at the margin or beyond. Raises InputError for impossible arguments.
    """
    _check(sd, n_comparisons, alpha, power)
    level, off = alpha / n_comparisons, abs(difference)
    if off >= margin:
        return None
    return _fewest(lambda n: _power_of_same(off, margin, sd, n, level, paired) >= power)


@cache
def _detectable(n: tuple[int, int], level: float, power: float, paired: bool) -> float:
    """In standard deviations."""

    def short(difference: float) -> float:
        return _power(difference, 1.0, n, level, paired) - power

    high = 1.0
    while short(high) < 0:
        high *= 2
    found: float = optimize.brentq(short, 0.0, high, xtol=1e-12, rtol=1e-9)
    return found


def _power(difference: float, sd: float, n: tuple[int, int], level: float, paired: bool) -> float:
    if min(n) < 2:
        return 0.0
    if sd == 0:
        return float(difference > 0)
    if paired:
        df = min(n) - 1
        return float(stats.nct.sf(stats.t.isf(level / 2, df), df, difference / sd * math.sqrt(min(n))))
    df = n[0] + n[1] - 2
    shift = difference / sd / math.sqrt(1 / n[0] + 1 / n[1])
    if min(n) > _ALIKE:
        return float(stats.nct.sf(stats.t.isf(level / 2, df), df, shift))
    critical, weights = _welch(n, level)
    return float(weights @ stats.nct.sf(critical, df, shift))


@cache
def _welch(n: tuple[int, int], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Critical values of *Student's* t at which Welch's test rejects, over the split of the variance, with weights.

    Of normal noise with one variance, the share u of the squares that falls to the first side is Beta distributed and
    independent of Student's t; given u, Welch's statistic is a multiple of it, with known degrees of freedom.
    """
    a, b = n[0] - 1, n[1] - 1
    x, weights = special.roots_jacobi(_NODES, b / 2 - 1, a / 2 - 1)
    u = (1 + x) / 2
    first, second = u / a / n[0], (1 - u) / b / n[1]  # squared standard errors, in units of the sum of squares
    df = (first + second) ** 2 / (first**2 / a + second**2 / b)
    students = (1 / n[0] + 1 / n[1]) / (a + b)
    return stats.t.isf(level / 2, df) * np.sqrt((first + second) / students), weights / weights.sum()


def _power_of_same(difference: float, margin: float, sd: float, n: int, level: float, paired: bool) -> float:
    if sd == 0:
        return 1.0
    df, error = (n - 1, sd / math.sqrt(n)) if paired else (2 * n - 2, sd * math.sqrt(2 / n))
    spread = np.sqrt(stats.chi2.ppf((np.arange(256) + 0.5) / 256, df) / df)  # sample over true, by equal probability
    room = margin - stats.t.isf(level / 2, df) * error * spread
    inside = stats.norm.cdf((room - difference) / error) - stats.norm.cdf((-room - difference) / error)
    return float(np.maximum(inside, 0.0).mean())


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The smallest number from 2 on that is enough, where more are never less so."""
    high = 2
    while not enough(high):
        high *= 2
        if high > MOST_SEEDS:
            return None
    low = high // 2  # not enough, or 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _check(sd: float, n_comparisons: int, alpha: float, power: float = 0.5) -> None:
    if not 0 <= sd < math.inf:
        raise InputError(f"a standard deviation of {sd:g}: give a finite number, 0 or more")
    if n_comparisons < 1:
        raise InputError(f"{n_comparisons} comparisons: give at least 1")
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise InputError(f"{name} {value:g}: give a number between 0 and 1")
    if power <= alpha / 2:
        raise InputError(f"power {power:g}: chance alone finds more; give one above alpha / 2, {alpha / 2:g}")

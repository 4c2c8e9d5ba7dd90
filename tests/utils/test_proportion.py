"""Proportions and their exact binomial intervals."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from gptzoo.utils.proportion import Proportion


def at_least(hits: int, n: int, p: float) -> float:
    return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(hits, n + 1))


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (37, 60), (0, 1), (1, 1)])
def test_the_ends_of_the_interval_are_where_a_tail_has_the_error_probability(hits: int, n: int) -> None:
    low, high = Proportion(hits, n).interval()
    assert at_least(hits, n, low) == pytest.approx(0.025) if hits else low == 0.0
    assert 1 - at_least(hits + 1, n, high) == pytest.approx(0.025) if hits < n else high == 1.0


@pytest.mark.parametrize("confidence", [0.9, 0.999])
@pytest.mark.parametrize(("hits", "n"), [(3, 1000), (999, 1000), (50_000, 64_000)])
def test_the_interval_is_scipys(hits: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(hits, n).proportion_ci(confidence, method="exact")
    assert Proportion(hits, n).interval(confidence) == pytest.approx((expected.low, expected.high))


def test_the_interval_covers_the_probability_in_95_of_100_cases() -> None:
    n, p = 40, 0.2
    covered = sum(
        stats.binom.pmf(hits, n, p)
        for hits in range(n + 1)
        for low, high in [Proportion(hits, n).interval()]
        if low <= p <= high
    )
    assert covered >= 0.95


def test_without_trials_nothing_is_known() -> None:
    assert Proportion(0, 0).value == 0
    assert Proportion(0, 0).interval() == (0.0, 1.0)

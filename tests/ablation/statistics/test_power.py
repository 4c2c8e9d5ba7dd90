"""Power of the tests, against statsmodels and against simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from gptzoo.ablation.statistics.power import detectable_difference, power_of, seeds_for_equivalence, seeds_needed
from gptzoo.errors import InputError

SDS = st.floats(1e-6, 1e6)


@pytest.mark.parametrize("n", [2, 3, 5, 16, 400])
@pytest.mark.parametrize("n_comparisons", [1, 7])
def test_the_power_of_paired_runs_equals_that_of_statsmodels(n: int, n_comparisons: int) -> None:
    difference = detectable_difference(2.0, n, n_comparisons=n_comparisons, power=0.9, paired=True)
    theirs = TTestPower().power(difference / 2.0, n, 0.05 / n_comparisons / 2, alternative="larger")
    assert theirs == pytest.approx(0.9, abs=1e-6)


def test_the_power_of_many_independent_runs_equals_that_of_statsmodels() -> None:
    difference = detectable_difference(0.3, 1000)  # where Welch's test equals Student's
    assert TTestIndPower().power(difference / 0.3, 1000, 0.025, alternative="larger") == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("n", [(2, 2), (3, 3), (5, 5), (3, 9), (12, 4)])
def test_the_power_of_few_independent_runs_equals_that_of_simulated_welch_tests(n: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    difference = detectable_difference(1.0, n)
    first, second = rng.normal(size=(100_000, n[0])), rng.normal(size=(100_000, n[1])) + difference
    tests = stats.ttest_ind(second, first, axis=1, equal_var=False)
    share_found = ((tests.pvalue < 0.05) & (tests.statistic > 0)).mean()
    assert share_found == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 100_000))


@pytest.mark.parametrize("paired", [True, False])
def test_the_verdict_same_has_the_predicted_probability(paired: bool) -> None:
    rng = np.random.default_rng(2)
    n = seeds_for_equivalence(1.0, 0.8, difference=0.2, paired=paired)
    assert n is not None
    if paired:
        sample = rng.normal(0.2, 0.8, size=(20_000, n))
        middle, error, df = sample.mean(axis=1), sample.std(axis=1, ddof=1) / math.sqrt(n), n - 1
    else:
        sides = rng.normal(size=(2, 20_000, n)) * 0.8
        middle = 0.2 + sides[0].mean(axis=1) - sides[1].mean(axis=1)
        error, df = np.sqrt(sides.var(axis=2, ddof=1).sum(axis=0) / n), 2 * n - 2
    half_width = stats.t.isf(0.025, df) * error
    share_same = ((middle - half_width > -1.0) & (middle + half_width < 1.0)).mean()
    assert 0.79 < share_same < 0.9  # the requested power, without seeds to spare
    n_for_more_power = seeds_for_equivalence(1.0, 0.8, difference=0.2, power=share_same + 0.02, paired=paired)
    assert n_for_more_power is not None
    assert n_for_more_power > n


@given(st.floats(0.05, 3.0), st.integers(1, 20), st.booleans())
def test_the_seeds_needed_are_the_smallest_sufficient_number(
    difference: float, n_comparisons: int, paired: bool
) -> None:
    n = seeds_needed(difference, 1.0, n_comparisons=n_comparisons, paired=paired)
    assert n is not None
    assert power_of(difference, 1.0, n, n_comparisons=n_comparisons, paired=paired) >= 0.8
    assert n == 2 or power_of(difference, 1.0, n - 1, n_comparisons=n_comparisons, paired=paired) < 0.8


@given(SDS, st.integers(2, 40), st.integers(1, 30), st.booleans())
def test_the_detectable_difference_is_proportional_to_the_noise(
    sd: float, n: int, n_comparisons: int, paired: bool
) -> None:
    rules = {"n_comparisons": n_comparisons, "paired": paired}
    detectable = detectable_difference(sd, n, **rules)  # type: ignore[arg-type]
    assert detectable == pytest.approx(sd * detectable_difference(1.0, n, **rules), rel=1e-6)  # type: ignore[arg-type]
    assert detectable > detectable_difference(sd, n + 1, **rules)  # type: ignore[arg-type]


def test_edge_cases_of_power() -> None:
    assert detectable_difference(1.0, 1) == math.inf
    assert detectable_difference(0.0, 2) == 0.0
    assert power_of(1.0, 1.0, 1) == 0.0
    assert seeds_needed(1.0, 0.0) == 2
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1e-9, 1.0) is None
    assert seeds_for_equivalence(0.0, 1.0) is None
    assert seeds_for_equivalence(0.1, 1.0, difference=-0.1) is None
    assert seeds_for_equivalence(0.1, 0.0) == 2


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((-1.0, 5), {}, "standard deviation -1"),
        ((math.nan, 5), {}, "standard deviation nan"),
        ((1.0, 0), {}, "0 seeds"),
        ((1.0, 5), {"n_comparisons": 0}, "0 comparisons"),
        ((1.0, 5), {"alpha": 1.0}, "alpha 1: give a number between 0 and 1"),
        ((1.0, 5), {"power": 0.0}, "power 0"),
        ((1.0, 5), {"power": 0.01}, "which chance alone reaches"),
    ],
)
def test_invalid_arguments_are_an_error(arguments: tuple[float, int], options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        detectable_difference(*arguments, **options)  # type: ignore[arg-type]

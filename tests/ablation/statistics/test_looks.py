"""Repeated looks at results: the errors of all looks together stay below alpha."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import gptzoo
from gptzoo.ablation.statistics.contrast import estimate_contrast
from gptzoo.ablation.statistics.multiple_comparisons import verdict_from_interval
from gptzoo.errors import SpecError
from gptzoo.spec.ablation_fairness import level_of_look

LOOKS = (3, 5, 8, 12, 20)
N = 3000  # simulated comparisons
RUN: dict[str, Any] = {"model": {"context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2}, "steps": 10}


def verdict(a: np.ndarray, b: np.ndarray, level: float, *, paired: bool) -> str:
    contrast = estimate_contrast([(1, dict(enumerate(b))), (-1, dict(enumerate(a)))], paired=paired)
    assert contrast is not None
    return verdict_from_interval(*contrast.interval(level), margin=0.0)


def n_called_different(levels: list[float], *, paired: bool, effect: float = 0.0) -> int:
    """Return how many of N comparisons are called better or worse at any look, adding seeds until they are."""
    rng = np.random.default_rng(11)
    n_called = 0
    for _ in range(N):
        a, b = rng.normal(0, 1, LOOKS[-1]), rng.normal(effect, 1, LOOKS[-1])
        looks = zip(LOOKS, levels, strict=True)
        n_called += any(verdict(a[:n], b[:n], of, paired=paired) in ("better", "worse") for n, of in looks)
    return n_called


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_seeds_that_are_added_until_something_differs_err_with_at_most_alpha(paired: bool) -> None:
    levels = [level_of_look(0.05, k) for k in range(1, len(LOOKS) + 1)]
    most = stats.binom.ppf(0.999, N, 0.05)
    assert n_called_different(levels, paired=paired) <= stats.binom.ppf(0.5, N, 0.05)
    assert n_called_different([0.05] * len(LOOKS), paired=paired) > most  # without the correction
    assert n_called_different(levels, paired=paired, effect=2.0) > 0.95 * N


def test_the_levels_of_any_number_of_looks_add_up_to_less_than_alpha() -> None:
    levels = [level_of_look(0.05, k) for k in range(1, 30)]
    assert levels[:3] == pytest.approx([0.05 * 2 / 3, 0.05 * 2 / 9, 0.05 * 2 / 27])
    assert 0.0499 < sum(levels) <= 0.05
    assert level_of_look(0.05, 0) == 0.05


def test_an_ablation_spends_the_level_of_its_look() -> None:
    spec = {"base": RUN, "axes": {"model.n_layers": [1, 2]}, "seeds": 5}
    assert gptzoo.load_ablation_spec(spec).level == 0.05
    assert gptzoo.load_ablation_spec({**spec, "looks": [3, 5]}).level == pytest.approx(0.05 * 2 / 9)


@pytest.mark.parametrize("looks", [[5, 3], [3], [5, 5], [3, 6]])
def test_looks_must_increase_to_the_number_of_seeds(looks: list[int]) -> None:
    with pytest.raises(SpecError, match=r"\$\.looks: expected increasing numbers, of which the last is .* seeds, 5"):
        gptzoo.load_ablation_spec({"base": RUN, "axes": {"model.n_layers": [1, 2]}, "seeds": 5, "looks": looks})

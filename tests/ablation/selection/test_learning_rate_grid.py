"""Grids of values: extension towards an edge, values that cannot be tuned, and what the results say about a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

import gptzoo
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.records.tuning import Tuning
from gptzoo.ablation.selection.learning_rate_grid import MAX_ADDED, GridResult, choose_value
from gptzoo.errors import SpecError
from gptzoo.spec.ablation_fairness import TuneSpec

BASE: dict[str, Any] = {
    "model": {"vocab_size": 257, "context_length": 16, "d_model": 24, "n_layers": 2, "n_heads": 3},
    "batch_size": 4,
    "steps": 100,
    "optimizer": {"type": "adamw", "lr": 0.001},
}


def ended(loss: float | None) -> TrialOutcome:
    if loss is None:
        return TrialOutcome("any", 1000, "failed", "diverged")
    return TrialOutcome("any", 1000, "done", rows=[{"step": 100, "val/loss": loss}])


def tune(loss_of: Callable[[float], float | None], base: dict[str, Any] = BASE, **fields: Any) -> GridResult:
    """Choose a value as if a trial with the value x had ended with `loss_of(x)`."""
    spec = gptzoo.load_run_spec(base)
    return choose_value(spec, TuneSpec(**fields), "val/loss", lambda trial: ended(loss_of(trial.value)))


def parabola(optimum: float) -> Callable[[float], float]:
    """Return a loss with its minimum at `optimum`, a parabola in the logarithm."""
    return lambda value: 2.0 + math.log(value / optimum) ** 2


def values(result: GridResult) -> list[float]:
    assert result.tuning is not None
    return [value.value for value in result.tuning.grid]


def test_without_extend_a_best_value_at_an_edge_is_recorded_with_its_side() -> None:
    for optimum, best, edge in ((1e-5, 0.0003, "lowest"), (0.001, 0.001, None), (1.0, 0.003, "highest")):
        result = tune(parabola(optimum))
        assert result.tuning is not None
        assert (result.tuning.best, result.tuning.edge, result.tuning.n_added) == (pytest.approx(best), edge, 0)


@pytest.mark.parametrize("optimum", [2e-6, 3e-5, 0.001, 0.04, 0.2])
def test_extend_moves_the_grid_until_the_best_value_is_inside(optimum: float) -> None:
    result = tune(parabola(optimum), extend=True)
    grid = values(result)
    assert result.tuning is not None
    assert result.spec is not None
    assert result.tuning.edge is None
    assert len(grid) == 3 + result.tuning.n_added
    nearest = min(grid, key=lambda value: abs(math.log(value / optimum)))
    assert result.spec.optimizer.lr == result.tuning.best == nearest
    assert grid[0] < optimum < grid[-1]
    ratios = [after / before for before, after in itertools.pairwise(grid)]
    assert all(ratio == pytest.approx(1 / 0.3, rel=1e-4) or ratio == pytest.approx(3.0, rel=1e-4) for ratio in ratios)


@pytest.mark.parametrize(("optimum", "edge"), [(1e-9, "lowest"), (1e6, "highest")])
def test_the_number_of_added_values_is_bounded_and_the_result_says_so(optimum: float, edge: str) -> None:
    result = tune(parabola(optimum), extend=True)
    assert len(values(result)) == 3 + MAX_ADDED
    assert result.tuning is not None
    assert (result.tuning.edge, result.tuning.stopped) == (edge, f"the limit of {MAX_ADDED} added values")


def test_a_grid_ends_at_the_last_valid_value() -> None:
    base = {**BASE, "optimizer": {"type": "adamw", "lr": 1e-9}}
    result = tune(parabola(1e-20), base, factors=(0.3, 1.0), extend=True)
    assert values(result) == pytest.approx([3e-10, 1e-9])
    assert result.tuning is not None
    assert "9e-11 is not valid: trains nothing" in result.tuning.stopped


def test_a_value_that_fails_beyond_the_best_one_bounds_the_grid() -> None:
    result = tune(lambda value: None if value > 0.002 else -value, extend=True)
    assert (result.tuning and result.tuning.best, result.tuning and result.tuning.edge) == (0.001, None)


def test_values_are_added_one_at_a_time_and_the_same_ones_after_an_interruption() -> None:
    """Results appear one by one, as in an ablation that is killed after every trial."""
    spec, fields = gptzoo.load_run_spec(BASE), TuneSpec(extend=True)
    results: dict[float, float] = {}
    waiting = TrialOutcome("any", 1000, "waiting")
    for _ in range(20):
        result = choose_value(
            spec, fields, "val/loss", lambda t: ended(results[t.value]) if t.value in results else waiting
        )
        if result.complete:
            break
        assert result.spec is None
        missing = [trial.value for trial in result.trials if trial.value not in results]
        assert len(missing) <= 3
        results[missing[0]] = parabola(0.04)(missing[0])
    assert result == tune(parabola(0.04), extend=True)


def test_a_field_without_an_effect_is_recorded_and_its_grid_not_extended() -> None:
    result = tune(lambda value: 2.0, extend=True)
    assert result.tuning is not None
    assert (len(result.tuning.grid), result.tuning.has_effect) == (3, False)


def test_a_field_that_is_zero_cannot_be_tuned() -> None:
    with pytest.raises(SpecError, match=r"\$\.tune\.field: model\.dropout is 0 .* every multiple of 0 is 0") as error:
        tune(parabola(1.0), field="model.dropout")
    assert "make it an axis" in str(error.value)


def test_a_whole_number_stays_one() -> None:
    base = {**BASE, "schedule": {"type": "cosine", "warmup_steps": 10}}
    result = tune(parabola(200.0), base, field="schedule.warmup_steps", extend=True)
    assert values(result) == [3, 10, 30, 90, 270, 810]
    assert result.spec is not None
    assert result.spec.schedule.warmup_steps == 270


def test_factors_that_give_one_value_are_refused() -> None:
    base = {**BASE, "schedule": {"type": "cosine", "warmup_steps": 1}}
    with pytest.raises(SpecError, match=r"so the factors 1, 1.2 give one value"):
        tune(parabola(1.0), base, field="schedule.warmup_steps", factors=(1.0, 1.2))


def test_a_result_survives_its_json_form() -> None:
    result = tune(parabola(1e6), extend=True)
    assert result.tuning is not None
    assert Tuning.from_json(asdict(result.tuning)) == result.tuning

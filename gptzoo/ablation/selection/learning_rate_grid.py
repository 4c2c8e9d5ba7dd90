"""A grid of learning rates for every variant, so that no variant wins because only the baseline was tuned.

Each variant is trained with the same multiples of its own learning rate, on seeds that are not used for the comparison.
It keeps the value with the lowest mean of the metric over these seeds. A value with a failed trial is not eligible; of
equally good values, the smallest is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import ValidationError

from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import TuneSpec
from gptzoo.spec.files import spec_error
from gptzoo.spec.overrides import set_field
from gptzoo.spec.run import RunSpec


@dataclass(frozen=True)
class GridTrial:
    """A variant with one value of the grid and one seed."""

    value: float
    seed: int
    spec: RunSpec


@dataclass(frozen=True)
class GridResult:
    """The value that a grid chose. `spec` is None until all trials have ended, and if all of them failed."""

    spec: RunSpec | None
    complete: bool
    description: str


def grid_trials(spec: RunSpec, tune: TuneSpec) -> list[GridTrial]:
    """Return the trials of a variant's grid. Raises SpecError if the tuned field is not a number of this variant."""
    base_value = _tuned_value(spec, tune)
    values = [base_value * factor for factor in sorted(tune.factors)]
    by_value = {value: _with_value(spec, tune, value) for value in values}
    return [
        GridTrial(value, seed, run.model_copy(update={"seed": seed}))
        for value, run in by_value.items()
        for seed in tune.seeds
    ]


def choose_value(
    spec: RunSpec, tune: TuneSpec, metric: str, outcome_of: Callable[[GridTrial], TrialOutcome]
) -> GridResult:
    """Choose the value of the grid with the lowest mean metric."""
    outcomes = [(trial, outcome_of(trial)) for trial in grid_trials(spec, tune)]
    if any(outcome.state not in ("done", "failed") for _, outcome in outcomes):
        return GridResult(None, False, f"{tune.field} is being tuned")
    values = sorted({trial.value for trial, _ in outcomes})
    means = {
        value: _mean([outcome.last(metric) for trial, outcome in outcomes if trial.value == value]) for value in values
    }
    eligible = {value: mean for value, mean in means.items() if mean is not None}
    grid = ", ".join(f"{value:g}" for value in values)
    if not eligible:
        return GridResult(None, True, f"all trials of the {tune.field} grid failed: {grid}")
    best = min(eligible, key=lambda value: (eligible[value], value))
    edge = ", at the edge of the grid" if best in (values[0], values[-1]) else ""
    return GridResult(_with_value(spec, tune, best), True, f"{tune.field} {best:g}, the best of {grid}{edge}")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _tuned_value(spec: RunSpec, tune: TuneSpec) -> float:
    value: object = spec.resolved()
    for part in tune.field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SpecError([Problem(spec.name, "$.tune.field", f"{tune.field!r} is not a number in this variant")])
    return float(value)


def _with_value(spec: RunSpec, tune: TuneSpec, value: float) -> RunSpec:
    data = spec.resolved()
    set_field(RunSpec, data, tune.field.split("."), value)
    try:
        return RunSpec.model_validate(data)
    except ValidationError as error:
        raise spec_error(error, {(): spec.name}) from None

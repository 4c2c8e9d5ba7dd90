"""A grid of learning rates for every variant, so that no variant wins because only the baseline was tuned.

Each variant is trained with the same multiples of its own learning rate, on seeds that are not used for the comparison.
It keeps the value with the best mean of the metric over these seeds. A value with a failed trial is not eligible; of
equally good values, the smallest is taken.

A best value at an edge of the grid says only that the optimum is there or beyond. With `extend`, a value beyond that
edge is added, and so on until the best one is inside. Which values are tried depends only on the results so far, so an
ablation that was interrupted tries the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import ValidationError

from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.records.tuning import Edge, GridValue, Tuning
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation_fairness import GridSpec
from gptzoo.spec.files import spec_error
from gptzoo.spec.overrides import set_field
from gptzoo.spec.run import RunSpec

MAX_ADDED = 5  # values that `extend` adds to the grid of a variant


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
    trials: Sequence[GridTrial] = ()  # of all values so far
    tuning: Tuning | None = None


class _Grid:
    """The values of one variant's grid in ascending order, each with the run that has it."""

    def __init__(self, spec: RunSpec, tune: GridSpec):
        self.spec, self.tune = spec, tune
        base_value = tuned_value(spec, tune)
        self.runs: dict[float, RunSpec] = {}
        for factor in tune.factors:
            value = base_value * factor
            if isinstance(base_value, int):
                value = round(value)
            self.runs[value] = with_value(spec, tune, value)
        if len(self.runs) < 2:
            factors = ", ".join(f"{factor:g}" for factor in tune.factors)
            reason = (
                f"{tune.field} is {base_value:g} in this variant, so the factors {factors} give one value. Use factors "
                "that give several"
            )
            raise SpecError([Problem(spec.name, "$.tune.factors", reason)])
        self.n_added = 0

    @property
    def values(self) -> list[float]:
        return sorted(self.runs)

    def edge_of(self, value: float) -> Edge | None:
        values = self.values
        return "lowest" if value == values[0] else "highest" if value == values[-1] else None

    def extend(self, edge: Edge) -> str:
        """Add a value beyond an edge, or return why there is none."""
        if self.n_added >= MAX_ADDED:
            return f"the limit of {MAX_ADDED} added values"
        values = self.values
        last, before = (values[0], values[1]) if edge == "lowest" else (values[-1], values[-2])
        value = float(f"{last * last / before:.6g}")
        if isinstance(last, int):
            value = round(value)
        if value in self.runs:
            return f"{value:g} is not beyond the grid"
        try:
            self.runs[value] = with_value(self.spec, self.tune, value)
        except SpecError as error:
            return f"{value:g} is not valid: {error.problems[0].reason}"
        self.n_added += 1
        return ""

    def trials(self) -> list[GridTrial]:
        return [
            GridTrial(value, seed, self.runs[value].model_copy(update={"seed": seed}))
            for value in self.values
            for seed in self.tune.seeds
        ]


def choose_value(
    spec: RunSpec,
    tune: GridSpec,
    metric: str,
    outcome_of: Callable[[GridTrial], TrialOutcome],
    *,
    higher_is_better: bool = False,
) -> GridResult:
    """Choose the value of a variant's grid with the best mean metric, and extend the grid if the spec asks for it.

    Raises SpecError if the tuned field is not a number of this variant, or 0.
    """
    grid = _Grid(spec, tune)
    outcomes: dict[tuple[float, int], TrialOutcome] = {}
    while True:
        trials = grid.trials()
        outcomes |= {(t.value, t.seed): outcome_of(t) for t in trials if (t.value, t.seed) not in outcomes}
        means = {value: _mean([outcomes[value, s].last(metric) for s in tune.seeds]) for value in grid.values}
        results = [GridValue(value, mean) for value, mean in means.items()]
        if any(outcome.state not in ("done", "failed") for outcome in outcomes.values()):
            tuning = Tuning(tune.field, tune.seeds, results, n_added=grid.n_added)
            return GridResult(None, False, tuning.description, trials, tuning)
        eligible = {value: mean for value, mean in means.items() if mean is not None}
        if not eligible:
            values = ", ".join(f"{value:g}" for value in grid.values)
            tuning = Tuning(tune.field, tune.seeds, results)
            return GridResult(None, True, f"all trials of the {tune.field} grid failed: {values}", trials, tuning)
        best = min(eligible, key=lambda value: (-eligible[value] if higher_is_better else eligible[value], value))
        edge, stopped = grid.edge_of(best), ""
        has_effect = len(eligible) < len(means) or len(set(eligible.values())) > 1
        if edge and tune.extend and has_effect and not (stopped := grid.extend(edge)):
            continue
        tuning = Tuning(tune.field, tune.seeds, results, best, edge, grid.n_added, stopped, has_effect)
        return GridResult(grid.runs[best], True, tuning.description, trials, tuning)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def tuned_value(spec: RunSpec, tune: GridSpec) -> float:
    """Return the value of the tuned field. Raises SpecError if it is not a number, or 0."""
    value: object = spec.resolved()
    for part in tune.field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SpecError([Problem(spec.name, "$.tune.field", f"{tune.field!r} is not a number in this variant")])
    if value == 0:
        reason = (
            f"{tune.field} is 0 in this variant, and every multiple of 0 is 0. Give it a value above 0 in the base, or "
            "make it an axis with the values to compare"
        )
        raise SpecError([Problem(spec.name, "$.tune.field", reason)])
    return value


def with_value(spec: RunSpec, tune: GridSpec, value: float) -> RunSpec:
    """Return the run with another value of the tuned field. Raises SpecError if it is not valid."""
    data = spec.resolved()
    set_field(RunSpec, data, tune.field.split("."), value)
    try:
        return RunSpec.model_validate(data)
    except ValidationError as error:
        raise spec_error(error, {(): spec.name}) from None

"""A small grid of learning rates for every variant, so that nobody wins by a tuned baseline.

The rule: each variant is tried with the same multiples of its own value, on seeds that nothing is compared with, and
keeps what had the lowest mean of the metric over those seeds; a value of which a try failed is out, and of equal ones
the smaller is taken.
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
class Try:
    """A variant with one of the values, on a seed that is for this only."""

    value: float
    seed: int
    spec: RunSpec


@dataclass(frozen=True)
class Tuned:
    """What came of a variant's tries; `spec` is None until all have ended, and where none of them went well."""

    spec: RunSpec | None
    ended: bool
    told: str  # in words


def tries(spec: RunSpec, tune: TuneSpec) -> list[Try]:
    """What is tried of a variant. Raises SpecError where it has no such field."""
    own = _value(spec, tune)
    with_value = {own * factor: _with(spec, tune, own * factor) for factor in sorted(tune.factors)}
    return [
        Try(value, seed, tried.model_copy(update={"seed": seed}))
        for value, tried in with_value.items()
        for seed in tune.seeds
    ]


def tuned(spec: RunSpec, tune: TuneSpec, metric: str, outcome_of: Callable[[Try], TrialOutcome]) -> Tuned:
    """What the tries of a variant say."""
    ends = [(one, outcome_of(one)) for one in tries(spec, tune)]
    if any(outcome.state not in ("done", "failed") for _, outcome in ends):
        return Tuned(None, False, f"{tune.field} is being tuned")
    values = {one.value for one, _ in ends}
    found = {value: _mean([end.last(metric) for one, end in ends if one.value == value]) for value in sorted(values)}
    well = {value: mean for value, mean in found.items() if mean is not None}
    if not well:
        return Tuned(None, True, f"no {tune.field} of the grid came to an end: {', '.join(f'{v:g}' for v in found)}")
    best = min(well, key=lambda value: (well[value], value))
    edge = ", at the edge of the grid" if best in (min(found), max(found)) else ""
    told = f"{tune.field} {best:g}, the best of {', '.join(f'{value:g}' for value in found)}{edge}"
    return Tuned(_with(spec, tune, best), True, told)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _value(spec: RunSpec, tune: TuneSpec) -> float:
    value = spec.resolved()
    for part in tune.field.split("."):
        value = value.get(part) if isinstance(value, dict) else None  # type: ignore[assignment]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SpecError([Problem(spec.name, "$.tune.field", f"{tune.field!r} is no number of this variant")])
    return float(value)


def _with(spec: RunSpec, tune: TuneSpec, value: float) -> RunSpec:
    data = spec.resolved()
    set_field(RunSpec, data, tune.field.split("."), value)
    try:
        return RunSpec.model_validate(data)
    except ValidationError as error:
        raise spec_error(error, {(): spec.name}) from None

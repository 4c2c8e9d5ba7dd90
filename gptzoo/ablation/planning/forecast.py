"""What a plan will take, and what it can tell: time, memory, and the smallest difference that its seeds can detect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from gptzoo.ablation.planning.calibrate import Calibration, calibrate, estimated, spread, wall_seconds
from gptzoo.ablation.planning.folder import read_outcome
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.statistics.contrast import pooled_sd
from gptzoo.ablation.statistics.power import detectable_difference


@dataclass(frozen=True)
class Detectable:
    """The smallest difference from the baseline that is found with the wanted power."""

    difference: float | None  # None with one seed, which tells nothing of the spread
    in_sd: bool  # in standard deviations over seeds, because those are not known yet
    n_seeds: int
    n_comparisons: int
    source: str  # where the spread over seeds is known from, in words


@dataclass(frozen=True)
class Forecast:
    """Estimates; None where nothing could be measured."""

    trial_seconds: Mapping[str, float]  # of one trial, by variant
    total_seconds: float | None  # of all trials, those that are done not taken off
    n_workers: int | None
    memory_bytes: int | None  # of as many of the largest trials as run at once
    detectable: Detectable


def forecast(plan: Plan, folder: Path, scratch: Path) -> Forecast:
    """Measure a few steps of the variants, in `scratch`, with the plan's own executor, and say what all will take."""
    runs = {variant.name: variant.spec for variant in plan.variants}
    costs = {variant.name: variant.costs for variant in plan.variants}
    measured = calibrate(plan.spec, {name: runs[name] for name in spread(costs, plan.baseline)}, scratch)
    each = estimated(measured, costs)
    seconds = {v.name: each[v.name].of_trial(v.n_steps, v.spec.eval.every) for v in plan.variants if each}
    with plan.spec.executor.build() as executor:
        n_workers = executor.free_slots
    planned = [trial.variant for trial in (*plan.tuning, *plan.trials)]
    planned += [variant.name for variant in plan.variants if not variant.ready for _ in plan.spec.seeds]
    if plan.contest is None:
        total = wall_seconds([seconds[name] for name in planned], n_workers) if seconds else None
    else:
        total = _with_selection(plan, each, n_workers) if each else None
    memory = [variant.costs.memory_bytes for variant in plan.variants if variant.costs.memory_bytes is not None]
    return Forecast(
        trial_seconds=seconds,
        total_seconds=total,
        n_workers=n_workers,
        memory_bytes=max(memory) * min(n_workers, max(1, len(planned))) if memory else None,
        detectable=detectable(plan, folder),
    )


def _with_selection(plan: Plan, each: Mapping[str, Calibration], n_workers: int) -> float:
    """Rung after rung, of trials that are as long as those of all variants are on average."""
    return sum(
        wall_seconds(
            [fmean(each[v.name].of_trial(round(steps), v.spec.eval.every) for v in plan.variants)] * n, n_workers
        )
        for n, steps in plan.phases()
    )


def detectable(plan: Plan, folder: Path) -> Detectable:
    """By the spread over seeds of the trials that are done in the folder, or else by what the spec says of it."""
    n, n_comparisons = len(plan.spec.seeds), max(1, plan.n_compared)
    sd, source = _spread_of_differences(plan, folder)
    found = detectable_difference(
        _pair_factor(plan) if sd is None else sd,
        n,
        n_comparisons=n_comparisons,
        alpha=plan.spec.alpha,
        power=plan.spec.power,
        paired=plan.paired,
    )
    return Detectable(found if math.isfinite(found) else None, sd is None, n, n_comparisons, source)


def _pair_factor(plan: Plan) -> float:
    """What makes the spread of a run that of a difference of two, if pairing gains nothing."""
    return math.sqrt(2) if plan.paired else 1.0


def _spread_of_differences(plan: Plan, folder: Path) -> tuple[float | None, str]:
    """The standard deviation that the test of a difference meets, and where it is known from."""
    outcome = read_outcome(folder) if (folder / "variants.json").is_file() else None
    pairs = _pair_factor(plan)
    if outcome is not None and plan.paired and (sd := pooled_sd(_differences(outcome))) is not None:
        return sd, "differences within seeds of the trials that are done here"
    if outcome is not None and (sd := pooled_sd([outcome.endpoints(v.name) for v in outcome.variants])) is not None:
        return pairs * sd, "the trials that are done here"
    if plan.spec.seed_noise is not None:
        return pairs * plan.spec.seed_noise.sd, plan.spec.seed_noise.source
    return None, "not known yet; two seeds of a variant tell, or seed_noise in the spec"


def _differences(outcome: Outcome) -> list[dict[int, float]]:
    base = outcome.endpoints(outcome.baseline)
    others = [outcome.endpoints(v.name) for v in outcome.variants if v.name != outcome.baseline]
    return [{seed: own[seed] - base[seed] for seed in own.keys() & base.keys()} for own in others]

"""Forecasts of the time and memory that a plan takes, and of the smallest difference that it can detect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from gptzoo.ablation.planning.baseline_lengths import steps_at
from gptzoo.ablation.planning.calibrate import (
    Calibration,
    calibrate,
    estimate_calibrations,
    variants_to_measure,
    wall_seconds,
)
from gptzoo.ablation.planning.folder import read_outcome
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.selection.learning_rate_grid import MAX_ADDED
from gptzoo.ablation.statistics.contrast import pooled_sd
from gptzoo.ablation.statistics.power import detectable_difference


@dataclass(frozen=True)
class Detectable:
    """The smallest difference from the baseline that the comparison detects with the specified power.

    Its fields, and those of `Forecast`, are keys of the output of `gptzoo ablate --dry-run --json`.
    """

    difference: float | None  # None with a single seed, which says nothing about the spread over seeds
    in_sd: bool  # True if the unit is standard deviations over seeds, because their size is not known yet
    n_seeds: int
    n_comparisons: int
    source: str  # the source of the standard deviation


@dataclass(frozen=True)
class Forecast:
    """Estimates for a plan; None if nothing could be measured."""

    trial_seconds: Mapping[str, float]  # duration of one trial, by variant
    total_seconds: float | None  # duration of all trials, including those that are done already
    n_workers: int | None
    memory_bytes: int | None  # of as many of the largest trials as run at the same time
    detectable: Detectable
    extension_seconds: float | None = None  # the most that extending the grids may add


def forecast(plan: Plan, folder: Path, scratch: Path) -> Forecast:
    """Measure a few steps of the variants with the plan's executor, in `scratch`, and extrapolate to all trials."""
    runs = {variant.name: variant.spec for variant in plan.variants}
    costs = {variant.name: variant.costs for variant in plan.variants}
    names = variants_to_measure(costs, plan.baseline)
    measured = calibrate(plan.spec, {name: runs[name] for name in names}, scratch)
    calibrations = estimate_calibrations(measured, costs)
    seconds = {
        variant.name: calibrations[variant.name].trial_seconds(variant.n_steps, variant.spec.eval.every)
        for variant in plan.variants
        if calibrations
    }
    with plan.spec.executor.build() as executor:
        n_workers = executor.free_slots
    trials = [trial.variant for trial in (*plan.tuning, *plan.trials)]
    trials += [variant.name for variant in plan.variants if not variant.is_tuned for _ in plan.spec.seeds]
    total = None
    of_lengths = _seconds_of_lengths(plan, calibrations) if calibrations else []
    if calibrations and plan.halving is None:
        total = wall_seconds([*(seconds[name] for name in trials), *of_lengths], n_workers)
    elif calibrations:
        total = _seconds_with_halving(plan, calibrations, n_workers) + wall_seconds(of_lengths, n_workers)
    extension = None
    if calibrations and plan.n_extension_trials:
        open_grids = [variant.name for variant in plan.variants if not variant.is_tuned]
        each = fmean(seconds[name] for name in open_grids)
        # A grid adds one value after the other, so only the trials of different variants and seeds run together.
        extension = max(each * MAX_ADDED, wall_seconds([each] * plan.n_extension_trials, n_workers))
    memory = [variant.costs.memory_bytes for variant in plan.variants if variant.costs.memory_bytes is not None]
    return Forecast(
        trial_seconds=seconds,
        total_seconds=total,
        n_workers=n_workers,
        memory_bytes=max(memory) * min(n_workers, max(1, len(trials))) if memory else None,
        detectable=detectable(plan, folder),
        extension_seconds=extension,
    )


def _seconds_of_lengths(plan: Plan, calibrations: Mapping[str, Calibration]) -> list[float]:
    """Estimate the duration of each trial of the baseline at other lengths."""
    baseline = next(variant for variant in plan.variants if variant.name == plan.baseline)
    steps = [steps_at(multiple, baseline) for multiple in plan.spec.baseline_lengths if multiple != 1]
    calibration = calibrations[plan.baseline]
    return [calibration.trial_seconds(n, baseline.spec.eval.every) for n in steps for _ in plan.spec.seeds]


def _seconds_with_halving(plan: Plan, calibrations: Mapping[str, Calibration], n_workers: int) -> float:
    """Estimate the duration of all rungs. It is not known which variants get into a rung, so each takes the average."""
    total = 0.0
    for n_trials, n_steps in plan.phases():
        trial_seconds = fmean(
            calibrations[variant.name].trial_seconds(round(n_steps), variant.spec.eval.every)
            for variant in plan.variants
        )
        total += wall_seconds([trial_seconds] * n_trials, n_workers)
    return total


def detectable(plan: Plan, folder: Path) -> Detectable:
    """Compute the smallest detectable difference from the spread over seeds, in the folder or in the spec."""
    n, n_comparisons = len(plan.spec.seeds), max(1, plan.n_compared)
    sd, source = _sd_of_differences(plan, folder)
    difference = detectable_difference(
        _pair_factor(plan) if sd is None else sd,
        n,
        n_comparisons=n_comparisons,
        alpha=plan.spec.level,
        power=plan.spec.power,
        paired=plan.paired,
    )
    return Detectable(difference if math.isfinite(difference) else None, sd is None, n, n_comparisons, source)


def _pair_factor(plan: Plan) -> float:
    """Return the ratio of the standard deviation of a paired difference to that of a run, without correlation."""
    return math.sqrt(2) if plan.paired else 1.0


def _sd_of_differences(plan: Plan, folder: Path) -> tuple[float | None, str]:
    """Return the standard deviation that the test of a difference uses, if it is known, and its source."""
    outcome = read_outcome(folder) if (folder / "variants.json").is_file() else None
    factor = _pair_factor(plan)
    if outcome is not None and plan.paired and (sd := pooled_sd(_differences(outcome))) is not None:
        return sd, "differences within seeds of the finished trials"
    if outcome is not None and (sd := pooled_sd([outcome.endpoints(v.name) for v in outcome.variants])) is not None:
        return factor * sd, "the finished trials"
    if plan.spec.seed_noise is not None:
        return factor * plan.spec.seed_noise.sd, plan.spec.seed_noise.source
    return None, "not known yet; run two seeds of a variant, or set seed_noise in the spec"


def _differences(outcome: Outcome) -> list[dict[int, float]]:
    """Return the difference from the baseline by seed, for each other variant."""
    others = [variant.name for variant in outcome.variants if variant.name not in outcome.baselines]
    pairs = [(outcome.endpoints(name), outcome.endpoints(outcome.reference_of(name))) for name in others]
    return [{seed: ends[seed] - base[seed] for seed in ends.keys() & base.keys()} for ends, base in pairs]

"""Calibration: the time of a training step of each variant, measured in a few steps with the ablation's executor.

Calibrations are trials in a folder of their own. A measurement is kept, so that a budget in seconds means the same
number of steps whenever the plan is made.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from gptzoo import registry
from gptzoo.ablation.design.costs import Costs, tokens_per_step
from gptzoo.ablation.design.enumeration import spec_digest
from gptzoo.ablation.execution.runner import RetryPolicy, Runner
from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.records.trial import TrialState
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.run import RunSpec
from gptzoo.terminal.activity import activity
from gptzoo.training.run.metrics_file import read_complete_rows

_N_STEPS = 12
_N_WARMUP_STEPS = 4  # not counted, because they allocate memory and tune kernels
MAX_MEASURED = 12  # variants that are measured for a forecast; the others are interpolated by size


@dataclass(frozen=True)
class Calibration:
    """The duration of parts of a trial, in seconds."""

    step: float  # one training step
    evaluation: float  # one evaluation, including a share of starting and saving the run

    def trial_seconds(self, n_steps: int, eval_every: int) -> float:
        """Estimate the duration of a complete trial."""
        return n_steps * self.step + (2 + max(0, n_steps - 1) // eval_every) * self.evaluation


@dataclass(frozen=True)
class _CalibrationTrial:
    name: str
    spec: RunSpec


def calibrate(spec: AblationSpec, runs: Mapping[str, RunSpec], folder: Path) -> dict[str, Calibration]:
    """Measure the runs, by variant, in `folder`. Runs that fail are left out of the result."""
    shortened = {name: _calibration_trial(run) for name, run in runs.items()}
    trials = list({trial.name: trial for trial in shortened.values()}.values())
    arguments = [part for file in registry.current().files for part in ("--plugin", str(file))]
    policy = RetryPolicy(retries=0, hang_timeout=spec.silence)
    with activity("measuring the speed of variants by short runs", len(trials)) as progress:

        def count(states: Mapping[str, TrialState]) -> None:
            progress.done = sum(state in ("done", "failed") for state in states.values())

        executor = spec.executor.build()
        Runner(trials, folder, executor, retry_policy=policy, arguments=arguments, on_change=count).run()
    measured = {trial.name: _measure(TrialFolder(folder / "trials" / trial.name), trial.spec) for trial in trials}
    calibrations = {name: measured[trial.name] for name, trial in shortened.items()}
    return {name: calibration for name, calibration in calibrations.items() if calibration is not None}


def variants_to_measure(costs: Mapping[str, Costs], baseline: str) -> list[str]:
    """Choose the variants to measure for a forecast: the baseline, and others evenly from smallest to largest."""
    ordered = sorted(costs, key=lambda name: (_size(costs[name]), name))
    if len(ordered) <= MAX_MEASURED:
        return ordered
    last = len(ordered) - 1
    evenly = [ordered[round(i * last / (MAX_MEASURED - 2))] for i in range(MAX_MEASURED - 1)]
    return list(dict.fromkeys([baseline, *evenly]))


def estimate_calibrations(measured: Mapping[str, Calibration], costs: Mapping[str, Costs]) -> dict[str, Calibration]:
    """Return a calibration for every variant. Variants without a measurement use that of the nearest size, scaled."""
    if not measured:
        return {}
    calibrations = {}
    for name, cost in costs.items():
        size = _size(cost)
        nearest = name if name in measured else min(measured, key=lambda candidate: abs(_size(costs[candidate]) - size))
        step = measured[nearest].step * size / _size(costs[nearest])
        calibrations[name] = Calibration(step, measured[nearest].evaluation)
    return calibrations


def wall_seconds(trials: Sequence[float], n_workers: int) -> float:
    """Return the duration of trials, in seconds, if each starts as soon as a worker is free."""
    busy_until = [0.0] * max(1, n_workers)
    for seconds in trials:
        first_free = busy_until.index(min(busy_until))
        busy_until[first_free] += seconds
    return max(busy_until)


def _calibration_trial(run: RunSpec) -> _CalibrationTrial:
    """Shorten a run to a few steps. Its name does not depend on the original length."""
    digest = spec_digest(run.model_copy(update={"steps": None, "tokens": None, "epochs": None}))[:12]
    checkpoint = run.checkpoint.model_copy(update={"every": _N_STEPS, "best": False})
    length = {"steps": _N_STEPS, "tokens": None, "epochs": None, "early_stopping": None}
    evaluation = run.eval.model_copy(update={"every": _N_STEPS})
    return _CalibrationTrial(digest, run.model_copy(update={**length, "eval": evaluation, "checkpoint": checkpoint}))


def _measure(folder: TrialFolder, run: RunSpec) -> Calibration | None:
    if folder.state != "done":
        return None
    speeds: list[Any] = [row.get("tokens_per_second") for row in read_complete_rows(folder.metrics)[1:]]
    if len(speeds) <= _N_WARMUP_STEPS or not all(isinstance(speed, int | float) and speed > 0 for speed in speeds):
        return None  # as for a run that fails
    seconds = [tokens_per_step(run) / speed for speed in speeds]
    # The run writes run.json when it is ready to train and status.json at its end. Two evaluations lie in between.
    duration = os.stat(folder.path / "status.json").st_mtime - os.stat(folder.path / "run.json").st_mtime
    return Calibration(median(seconds[_N_WARMUP_STEPS:]), max(0.0, duration - sum(seconds)) / 2)


def _size(costs: Costs) -> float:
    return costs.flops_per_token or float(costs.n_parameters)

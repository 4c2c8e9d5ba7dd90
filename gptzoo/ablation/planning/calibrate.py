"""How long a step of each variant takes where the trials will run: a few steps of each, by the ablation's executor.

Calibrations are trials in a folder of their own. What is measured once stays measured, so a budget in seconds is the
same number of steps whenever it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from gptzoo import registry
from gptzoo.ablation.design.costs import Costs, tokens_per_step
from gptzoo.ablation.design.variants import digest_of
from gptzoo.ablation.execution.runner import Rules, Runner
from gptzoo.ablation.execution.trial import TrialFolder
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.metrics_file import whole_rows

_STEPS = 12
_FIRST = 4  # steps that are not counted: they allocate and tune
_MOST = 12  # variants that are measured for an estimate; those between them in size are taken to be between in time


@dataclass(frozen=True)
class Calibration:
    """Seconds that one trial takes: a step of training, and an evaluation with its share of starting and saving."""

    step: float
    evaluation: float

    def of_trial(self, n_steps: int, eval_every: int) -> float:
        """The estimated seconds of a whole trial."""
        return n_steps * self.step + (2 + max(0, n_steps - 1) // eval_every) * self.evaluation


@dataclass(frozen=True)
class _Short:
    """A trial of a few steps."""

    name: str
    spec: RunSpec


def calibrate(spec: AblationSpec, runs: Mapping[str, RunSpec], folder: Path) -> dict[str, Calibration]:
    """By variant, what the clock says of the runs; one that failed is not among them."""
    shorts = {name: _short(run) for name, run in runs.items()}
    trials = list({short.name: short for short in shorts.values()}.values())
    arguments = [part for file in registry.current().files for part in ("--plugin", str(file))]
    rules = Rules(retries=0, silence=spec.silence)
    Runner(trials, folder, spec.executor.build(), rules=rules, arguments=arguments).run()
    measured = {trial.name: _measured(TrialFolder(folder / "trials" / trial.name), trial.spec) for trial in trials}
    return {name: found for name, short in shorts.items() if (found := measured[short.name]) is not None}


def spread(costs: Mapping[str, Costs], baseline: str) -> list[str]:
    """The variants to measure for an estimate: the baseline, and others from the smallest to the largest."""
    ordered = sorted(costs, key=lambda name: (_size(costs[name]), name))
    if len(ordered) <= _MOST:
        return ordered
    last = len(ordered) - 1
    return list(dict.fromkeys([baseline, *(ordered[round(i * last / (_MOST - 2))] for i in range(_MOST - 1))]))


def estimated(measured: Mapping[str, Calibration], costs: Mapping[str, Costs]) -> dict[str, Calibration]:
    """A calibration for every variant: its own, or that of the measured one nearest in size, by the ratio of sizes."""
    if not measured:
        return {}
    found = {}
    for name, own in costs.items():
        near = name if name in measured else min(measured, key=lambda other: abs(_size(costs[other]) - _size(own)))
        step = measured[near].step * _size(own) / _size(costs[near])
        found[name] = Calibration(step, measured[near].evaluation)
    return found


def _short(run: RunSpec) -> _Short:
    digest = digest_of(run.model_copy(update={"steps": None, "tokens": None, "epochs": None}))[:12]
    checkpoint = run.checkpoint.model_copy(update={"every": _STEPS, "best": False})
    length = {"steps": _STEPS, "tokens": None, "epochs": None, "early_stopping": None}
    rare = run.eval.model_copy(update={"every": _STEPS})
    return _Short(digest, run.model_copy(update={**length, "eval": rare, "checkpoint": checkpoint}))


def _measured(folder: TrialFolder, run: RunSpec) -> Calibration | None:
    if folder.state != "done":
        return None
    seconds = [tokens_per_step(run) / row["tokens_per_second"] for row in whole_rows(folder.metrics)[1:]]
    # The run writes its spec when it is ready, and its status when it has ended: evaluations lie between, two of them.
    between = os.stat(folder.path / "status.json").st_mtime - os.stat(folder.path / "run.json").st_mtime
    return Calibration(median(seconds[_FIRST:]), max(0.0, between - sum(seconds)) / 2)


def _size(costs: Costs) -> float:
    return costs.flops_per_token or float(costs.n_parameters)


def wall_seconds(trials: Sequence[float], n_workers: int) -> float:
    """How long trials of these lengths take, each begun as soon as there is a free worker."""
    free = [0.0] * max(1, n_workers)
    for seconds in trials:
        first = free.index(min(free))
        free[first] += seconds
    return max(free)

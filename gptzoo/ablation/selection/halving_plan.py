"""The trials of a selection by successive halving, and the steps at which they pause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.records.selection import RungTrial, Selection
from gptzoo.ablation.selection.halving import rung_steps, select
from gptzoo.ablation.selection.trial_results import read_rung_trial
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation_fairness import HalvingSpec
from gptzoo.spec.run import RunSpec


@dataclass(frozen=True)
class HalvingPlan:
    """Everything that the rungs of a selection depend on. Its fields are the keys of "contest" in variants.json."""

    eta: float
    baseline: str
    seeds: Sequence[int]
    steps: Mapping[str, Sequence[int]]  # the steps at which the trials of each variant pause
    trials: Sequence[Mapping[str, Any]]  # variant, seed and folder of each trial
    n_expected: int  # candidates in the first rung, without the baseline
    searching: bool = False  # True while the search will suggest more of these candidates
    higher_is_better: bool = False  # direction of the metric; older versions wrote none

    def evaluate(self, folder: Path, metric: str) -> Selection:
        """Read the trials in an ablation's folder, and decide the rungs by their metrics."""
        names = {(trial["variant"], trial["seed"]): trial["folder"] for trial in self.trials}

        reference = TrialFolder(folder / "trials" / names[self.baseline, self.seeds[0]])

        def read_trial(variant: str, seed: int, step: int) -> RungTrial:
            trial = TrialFolder(folder / "trials" / names[variant, seed], pause_at=step)
            return read_rung_trial(trial, metric, reference)

        return select(
            self.steps,
            self.baseline,
            eta=self.eta,
            seeds=self.seeds,
            read_trial=read_trial,
            searching=self.searching,
            higher_is_better=self.higher_is_better,
        )


def pause_steps(runs: Mapping[str, tuple[RunSpec, int]], halving: HalvingSpec) -> dict[str, list[int]]:
    """Return the steps at which the trials of each variant pause. `runs` has each variant's spec and number of steps.

    Raises SpecError if rungs coincide, or if a run stops early by itself.
    """
    steps, problems = {}, []
    for name, (run, n_steps) in runs.items():
        try:
            steps[name] = rung_steps(n_steps, run.eval.every, halving.fractions)
        except ValueError as error:
            problems.append(Problem(name, "$.halving.rungs", str(error)))
        if run.early_stopping is not None:
            reason = "a run that stops by itself has no loss at later rungs; remove early_stopping, halving stops runs"
            problems.append(Problem(name, "$.early_stopping", reason))
    if problems:
        raise SpecError(problems[:1])
    return steps

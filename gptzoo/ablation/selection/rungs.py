"""The selection of an ablation by successive halving: which trials it has, and what their folders say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.ablation.execution.trial import TrialFolder
from gptzoo.ablation.records.selection import RungTrial, Selection
from gptzoo.ablation.selection.halving import select, steps_of_rungs
from gptzoo.ablation.selection.trial_results import seen_at
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import HalvingSpec
from gptzoo.spec.run import RunSpec


@dataclass(frozen=True)
class Contest:
    """All that a selection is held by, as variants.json has it."""

    eta: float
    baseline: str
    seeds: Sequence[int]
    steps: Mapping[str, Sequence[int]]  # where the trials of a variant pause
    trials: Sequence[Mapping[str, Any]]  # variant, seed and folder
    n_expected: int  # contestants in the first rung, the baseline not counted
    searching: bool = False  # some of those are still to be suggested

    def held(self, folder: Path, metric: str) -> Selection:
        """The selection as the folders of its trials tell it."""
        names = {(trial["variant"], trial["seed"]): trial["folder"] for trial in self.trials}

        def look(variant: str, seed: int, step: int) -> RungTrial:
            return seen_at(TrialFolder(folder / "trials" / names[variant, seed], until=step), metric)

        return select(self.steps, self.baseline, eta=self.eta, seeds=self.seeds, look=look, searching=self.searching)


def rungs_of(runs: Mapping[str, tuple[RunSpec, int]], halving: HalvingSpec) -> dict[str, list[int]]:
    """By variant, the steps where its trials pause; of each its run and how many steps that has. Raises SpecError."""
    found, problems = {}, []
    for name, (run, n_steps) in runs.items():
        try:
            found[name] = steps_of_rungs(n_steps, run.eval.every, halving.shares)
        except ValueError as error:
            problems.append(Problem(name, "$.halving.rungs", str(error)))
        if run.early_stopping is not None:
            reason = "a run that ends by itself has no loss at a later rung; leave it to halving"
            problems.append(Problem(name, "$.early_stopping", reason))
    if problems:
        raise SpecError(problems[:1])
    return found

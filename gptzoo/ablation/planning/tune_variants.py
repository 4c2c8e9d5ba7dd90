"""The tuning of variants: the trials of their learning-rate grids, and the values that the results so far choose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.planning.plan_types import PlannedTrial
from gptzoo.ablation.planning.trial_names import TrialNames
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.selection.learning_rate_grid import GridResult, GridTrial, choose_value
from gptzoo.ablation.selection.transferred_value import transferred_value
from gptzoo.ablation.selection.trial_results import read_trial_outcome, with_same_text
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation_fairness import TuneSpec
from gptzoo.spec.run import RunSpec
from gptzoo.strict_model import did_you_mean


def tune_variants(
    runs: Mapping[str, RunSpec],
    tune: TuneSpec,
    metric: str,
    folder: Path,
    names: TrialNames,
    *,
    higher_is_better: bool,
) -> tuple[list[PlannedTrial], dict[str, GridResult]]:
    """Return the trials of all grids, and the value that the results in `folder` choose for each variant.

    Raises SpecError if a variant follows one that does not exist, or if the field cannot be tuned.
    """
    _check_names(runs, tune)
    trials: list[PlannedTrial] = []
    results: dict[str, GridResult] = {}
    for variant, run in runs.items():
        if variant not in tune.transfer:
            of_grid, results[variant] = _tune(
                variant, run, tune, metric, folder, names, higher_is_better=higher_is_better
            )
            trials += of_grid
    for variant, sources in tune.transfer.items():
        if variant in runs:
            results[variant] = transferred_value(
                runs[variant], tune, {source: (runs[source], results[source]) for source in sources}
            )
    return trials, results


def _check_names(runs: Mapping[str, RunSpec], tune: TuneSpec) -> None:
    problems = [
        Problem("ablation", f"$.tune.transfer.{variant}", f"there is no variant {name!r}{did_you_mean(name, runs)}")
        for variant, sources in tune.transfer.items()
        for name in (variant, *sources)
        if name not in runs
    ]
    if problems:
        raise SpecError(problems)


def _tune(
    variant: str,
    run: RunSpec,
    tune: TuneSpec,
    metric: str,
    folder: Path,
    names: TrialNames,
    *,
    higher_is_better: bool,
) -> tuple[list[PlannedTrial], GridResult]:
    """Return the trials of a variant's learning-rate grid, and the value that their results so far choose."""

    def planned(trial: GridTrial) -> PlannedTrial:
        return names.planned_trial(variant, trial.seed, trial.spec)

    outcomes: list[TrialOutcome] = []

    def outcome_of(trial: GridTrial) -> TrialOutcome:
        trial_folder = TrialFolder(folder / "trials" / planned(trial).name)
        outcomes.append(read_trial_outcome(trial_folder, variant, trial.seed))
        return with_same_text(outcomes, variant, metric)[-1]

    result = choose_value(run, tune, metric, outcome_of, higher_is_better=higher_is_better)
    return list(map(planned, result.trials)), result

"""The entry point of an ablation: from its spec to its outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptzoo import registry
from gptzoo.ablation.design.costs import CostCache
from gptzoo.ablation.design.optuna_search import DEFAULT_BATCH_SIZE, append_suggestions, suggest
from gptzoo.ablation.execution.runner import RetryPolicy, Runner
from gptzoo.ablation.execution.score_trials import TrialScorer
from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.planning.folder import check_same_ablation, read_outcome, write_plan
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.planning.plan_types import Plan, PlannedTrial
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.trial import TrialState
from gptzoo.harness.task_scores import check_tasks
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.files import load_ablation_spec

ProgressCallback = Callable[[Sequence[PlannedTrial], Runner, Mapping[str, TrialState]], None]


def ablate(
    spec: AblationSpec | str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    retry_failed: bool = False,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_progress: ProgressCallback = lambda trials, runner, states: None,
) -> Outcome:
    """Run the trials of an ablation that are not done yet, in the folder `out`, and return the outcome.

    A trial that fails is recorded with its reason and does not end the others. With `retry_failed`, trials that failed
    earlier are run again.

    `on_plan` is called with the plan before anything runs; `on_progress` is called with the states of the trials
    whenever they may have changed.

    Raises SpecError or FolderError for invalid input, and Interrupted after a signal, when the running trials have
    saved a checkpoint.
    """
    if not isinstance(spec, AblationSpec):
        spec = load_ablation_spec(spec)
    folder = Path(out)
    check_harness(spec)
    check_same_ablation(folder, spec)
    costs = CostCache()
    plan = _update_plan(spec, folder, costs)
    on_plan(plan)
    started: set[str] = set()  # trials of the grids; a grid is extended by its results
    while trials := [trial for trial in plan.tuning if trial.name not in started]:
        _create_runner(plan, trials, folder, on_progress, samples=False).run(retry_failed=retry_failed)
        started |= {trial.name for trial in trials}
        plan = _update_plan(spec, folder, costs)
    retried: set[int | None] = set()  # rungs whose failed trials have been retried
    while plan.selecting:
        if plan.wants_suggestions:
            _suggest_variants(plan, folder)
        else:
            rung = plan.selecting[0].rung
            retry = retry_failed and rung not in retried
            _create_runner(plan, plan.selecting, folder, on_progress, samples=False).run(retry_failed=retry)
            retried.add(rung)
        plan = _update_plan(spec, folder, costs)
    _create_runner(plan, plan.final_trials, folder, on_progress, samples=spec.samples).run(retry_failed=retry_failed)
    if spec.harness is not None:
        scorer = TrialScorer(
            [TrialFolder(folder / "trials" / trial.name) for trial in plan.trials],
            spec.harness,
            _include_path(spec),
            spec.executor.build(),
            retries=spec.retries,
            arguments=_plugin_arguments(),
        )
        scorer.run(retry_failed=retry_failed)
    return read_outcome(folder)


def check_harness(spec: AblationSpec) -> None:
    """Raise InputError if the trials could not be scored: without the package lm_eval, or for an unknown task."""
    if spec.harness is not None:
        check_tasks(spec.harness.tasks, _include_path(spec))


def _include_path(spec: AblationSpec) -> Path | None:
    given = None if spec.harness is None else spec.harness.include_path
    return None if given is None else (spec.folder / given).resolve()


def _plugin_arguments() -> list[str]:
    """Return the options by which a job loads the same plugin files as this process."""
    return [argument for file in registry.current().files for argument in ("--plugin", str(file))]


def _update_plan(spec: AblationSpec, folder: Path, costs: CostCache) -> Plan:
    """Plan the ablation from the results so far, and write the plan to the folder."""
    plan = make_plan(spec, folder, costs=costs)
    write_plan(folder, plan)
    return plan


def _suggest_variants(plan: Plan, folder: Path) -> None:
    """Store the next batch of suggestions, based on the results of all earlier ones."""
    search, selection, spec = plan.search, plan.selection, plan.spec
    assert search is not None
    assert selection is not None
    means = {entry.variant: entry.mean for rung in selection.rungs for entry in rung.entries}
    results = [
        (suggestion, None if name is None else means.get(name))
        for suggestion, name in zip(search.suggestions, search.variants, strict=True)
    ]
    n_left = search.n_wanted - len({*search.variants} - {None, search.baseline})
    n = min(spec.n_at_once or DEFAULT_BATCH_SIZE, n_left)
    suggestions = suggest(
        spec.axes, plan.axes, results, seed=spec.draw_seed, n=n, higher_is_better=plan.higher_is_better
    )
    append_suggestions(folder, search.n_stored, suggestions)


def _create_runner(
    plan: Plan, trials: Sequence[PlannedTrial], folder: Path, on_progress: ProgressCallback, *, samples: bool
) -> Runner:
    """Create a runner for some trials of a plan. Its trials load the same plugin files as this process."""
    spec = plan.spec
    runner = Runner(
        trials,
        folder,
        spec.executor.build(),
        retry_policy=RetryPolicy(retries=spec.retries, hang_timeout=spec.silence),
        samples=samples,
        pauses={trial.name: trial.pause_at for trial in trials if trial.pause_at is not None},
        arguments=_plugin_arguments(),
        on_change=lambda states: on_progress(trials, runner, states),
    )
    return runner

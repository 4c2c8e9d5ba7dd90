"""An ablation from its spec to its outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptzoo import registry
from gptzoo.ablation.design.costs import Ledger
from gptzoo.ablation.design.optuna_search import N_AT_ONCE, extend, suggest
from gptzoo.ablation.execution.runner import Rules, Runner
from gptzoo.ablation.planning.folder import read_outcome, refuse_another, write_plan
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.planning.plan_types import Plan, PlannedTrial
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.trial import TrialState
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.files import load_ablation_spec

Watch = Callable[[Sequence[PlannedTrial], Runner, Mapping[str, TrialState]], None]


def ablate(
    spec: AblationSpec | str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    retry_failed: bool = False,
    tell: Callable[[Plan], None] = lambda plan: None,
    watch: Watch = lambda trials, runner, states: None,
) -> Outcome:
    """Run the trials of an ablation that are not done yet, in the folder `out`; returns what it has found.

    A trial that fails is kept with its reason, and does not end the others; `retry_failed` tries those again. `tell`
    gets the plan before anything runs, `watch` the states of trials whenever they may have changed.
    Raises SpecError and FolderError for wrong input, and Interrupted after a signal, when what ran has saved.
    """
    if not isinstance(spec, AblationSpec):
        spec = load_ablation_spec(spec)
    folder = Path(out)
    refuse_another(folder, spec)
    ledger = Ledger()
    plan = make_plan(spec, folder, ledger=ledger)
    write_plan(folder, plan)
    tell(plan)
    if plan.tuning:
        _runner(plan, plan.tuning, folder, watch, samples=False).run(retry_failed=retry_failed)
        plan = make_plan(spec, folder, ledger=ledger)
        write_plan(folder, plan)
    tried_again: set[int | None] = set()  # rungs whose failures have had another chance
    while plan.selecting:
        if plan.wants_suggestions:
            _suggest(plan, folder)
        else:
            rung = plan.selecting[0].rung
            again = retry_failed and rung not in tried_again
            _runner(plan, plan.selecting, folder, watch, samples=False).run(retry_failed=again)
            tried_again.add(rung)
        plan = make_plan(spec, folder, ledger=ledger)
        write_plan(folder, plan)
    _runner(plan, plan.trials, folder, watch, samples=spec.samples).run(retry_failed=retry_failed)
    return read_outcome(folder)


def _suggest(plan: Plan, folder: Path) -> None:
    """Keep the next batch of suggestions, made by what was found of all before."""
    search, selection, spec = plan.search, plan.selection, plan.spec
    assert search is not None
    assert selection is not None
    means = {entry.variant: entry.mean for rung in selection.rungs for entry in rung.entries}
    told = [(one, means.get(name or "")) for one, name in zip(search.suggestions, search.variants, strict=True)]
    n_left = search.wanted - len({*search.variants} - {None, search.baseline})
    n = min(spec.n_at_once or N_AT_ONCE, n_left)
    extend(folder, search.n_kept, suggest(spec.axes, plan.axes, told, seed=spec.draw_seed, n=n))


def _runner(plan: Plan, trials: Sequence[PlannedTrial], folder: Path, watch: Watch, *, samples: bool) -> Runner:
    """What works off trials of a plan. Components from files that are loaded here are loaded by each trial too."""
    spec = plan.spec
    runner = Runner(
        trials,
        folder,
        spec.executor.build(),
        rules=Rules(retries=spec.retries, silence=spec.silence),
        samples=samples,
        until={trial.name: trial.until for trial in trials if trial.until is not None},
        arguments=[part for file in registry.current().files for part in ("--plugin", str(file))],
        watch=lambda states: watch(trials, runner, states),
    )
    return runner

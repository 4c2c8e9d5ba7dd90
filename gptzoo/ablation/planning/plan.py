"""From the spec of an ablation to its trials: variants enumerated, made comparable, costed, and given seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gptzoo.ablation.design.axes import label_of
from gptzoo.ablation.design.budget import with_budget
from gptzoo.ablation.design.costs import Costs, Ledger
from gptzoo.ablation.design.optuna_search import (
    Search,
    Suggestion,
    fitting,
    listed,
    own_values,
    points,
    read_suggestions,
    refuse_without_optuna,
    with_choices,
)
from gptzoo.ablation.design.size_matching import amount, matched
from gptzoo.ablation.design.spec_reader import SpecReader
from gptzoo.ablation.design.variants import Enumerated, Variants, digest_of, enumerate_variants
from gptzoo.ablation.execution.trial import TrialFolder
from gptzoo.ablation.planning.calibrate import Calibration, calibrate
from gptzoo.ablation.planning.plan_types import Plan, PlannedTrial, PlannedVariant
from gptzoo.ablation.records.outcome import Exclusion
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.selection.learning_rate_grid import Try, Tuned, tries, tuned
from gptzoo.ablation.selection.rungs import Contest, rungs_of
from gptzoo.ablation.selection.trial_results import trial_outcome
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import AblationSpec, AxisSpec, HalvingSpec
from gptzoo.spec.json_diff import differences
from gptzoo.spec.run import RunSpec

_SAME_DATA = ("corpus", "tokenizer", "batching")


def make_plan(spec: AblationSpec, folder: Path, *, ledger: Ledger | None = None, scratch: Path | None = None) -> Plan:
    """The plan of an ablation whose trials are in `folder`, where some may be already. Raises SpecError.

    A budget in seconds takes a calibration, which runs in `scratch`, if left out a part of the folder. A `ledger` that
    is given spares what it knows already.
    """
    axes, kept, suggestions = _with_suggestions(spec, folder)
    found = enumerate_variants(
        RunSpec,
        dict(spec.base),
        axes,
        mode=spec.mode,
        n=spec.n_variants,
        seed=spec.draw_seed,
        baseline=spec.baseline,
        exclude=spec.exclude,
        folder=spec.folder,
        points=points(suggestions),
    )
    ledger = ledger or Ledger()
    ledger.learn({one.name: one.spec for one in found})  # before a search for widths runs the same components here
    sized, unmatched = _sized(spec, found, ledger)
    ledger.learn({one.name: one.spec for one, _ in sized})
    costs = {one.name: ledger.costs(one.spec) for one, _ in sized}
    seconds: Mapping[str, Calibration] = {}
    if spec.budget is not None and spec.budget.seconds is not None:
        seconds = calibrate(spec, {one.name: one.spec for one, _ in sized}, scratch or folder / "calibration")
    planned, tuning = _planned(spec, sized, costs, seconds, folder, ledger)
    _check_metric(spec, planned)
    order = {one.name: index for index, one in enumerate(found)}
    planned.sort(key=lambda variant: order[variant.name])
    there = _folders(folder)
    plan = Plan(
        spec=spec,
        variants=planned,
        baseline=found.baseline,
        axes=found.axes,
        factorial=found.complete and spec.halving is None,
        paired=_same_data(planned),
        exclusions=[*found.exclusions, *unmatched],
        merged={one.name: one.merged for one in found if one.merged},
        trials=_trials(planned, spec.seeds, there),
        tuning=tuning,
        notes=list(_notes(found, planned)),
    )
    if spec.mode == "tpe":
        suggestions = with_choices(suggestions, found.axes)
        plan = replace(plan, search=_search(plan, suggestions, found.at_points, len(kept)))
    return plan if spec.halving is None else _with_selection(plan, spec.halving, folder, there)


def _with_suggestions(
    spec: AblationSpec, folder: Path
) -> tuple[Mapping[str, AxisSpec], Sequence[Suggestion], Sequence[Suggestion]]:
    """The axes with choices on each, all that was ever suggested, and those that the axes have (still)."""
    if spec.mode != "tpe":
        return spec.axes, [], []
    kept = read_suggestions(folder)
    suggestions = fitting(kept, spec.axes)
    base = SpecReader(spec.folder).read(RunSpec, dict(spec.base)).resolved()
    return listed(spec.axes, suggestions, own_values(spec.axes, base, spec.baseline)), kept, suggestions


def _search(plan: Plan, suggestions: Sequence[Suggestion], variants: Sequence[str | None], n_kept: int) -> Search:
    assert plan.spec.n_variants is not None  # of mode tpe
    valid = {variant.name for variant in plan.variants}  # not those that could not be matched in size
    names = [name if name in valid else None for name in variants]
    search = Search(plan.spec.n_variants, plan.baseline, suggestions, names, n_kept)
    if not search.complete:
        refuse_without_optuna()
    return search


def _trials(variants: Sequence[PlannedVariant], seeds: Sequence[int], there: Mapping[str, str]) -> list[PlannedTrial]:
    """Those of variants that are ready, a seed of all before the next: so each has a result before any has two."""
    return [
        _trial(variant.name, seed, variant.spec.model_copy(update={"seed": seed}), there)
        for seed in sorted(seeds)
        for variant in variants
        if variant.ready
    ]


def _with_selection(plan: Plan, halving: HalvingSpec, folder: Path, there: Mapping[str, str]) -> Plan:
    """The plan with what the rungs have said so far; it compares the baseline with the finalists, once known."""
    trials = _trials(plan.variants, halving.seeds, there)
    searching = plan.search is not None and not plan.search.complete
    contest = Contest(
        eta=halving.eta,
        baseline=plan.baseline,
        seeds=sorted(halving.seeds),
        steps=rungs_of({one.name: (one.spec, one.n_steps) for one in plan.variants}, halving),
        trials=[{"variant": trial.variant, "seed": trial.seed, "folder": trial.name} for trial in trials],
        n_expected=plan.search.wanted if searching and plan.search else len(plan.variants) - 1,
        searching=searching,
    )
    selection = contest.held(folder, plan.spec.metric)
    compared = {plan.baseline, *(selection.finalists or ())}
    rung = None if selection.finalists is not None else selection.rungs[-1]
    steps = {} if rung is None else {entry.variant: entry.step for entry in rung.entries}
    return replace(
        plan,
        trials=[trial for trial in plan.trials if trial.variant in compared],
        contest=contest,
        selection=selection,
        selecting=[
            replace(trial, until=steps[trial.variant], rung=len(selection.rungs))
            for trial in trials
            if trial.variant in steps
        ],
    )


def _sized(
    spec: AblationSpec, found: Variants[RunSpec], ledger: Ledger
) -> tuple[list[tuple[Enumerated[RunSpec], str]], list[Exclusion]]:
    """The variants as large as they are to be, the baseline first, each with what is left of a difference in size."""
    baseline = next(one for one in found if one.name == found.baseline)
    others = [one for one in found if one is not baseline]
    if spec.match is None:
        return [(one, "") for one in (baseline, *others)], []
    target = amount(baseline.spec, spec.match, ledger)
    sized, unmatched = [(baseline, "")], []
    for one in others:
        try:
            wide, residue = matched(one.spec, target, spec.match, ledger)
        except SpecError as error:
            unmatched.append(Exclusion(one.choices, f"cannot be matched: {error.problems[0].reason}"))
            continue
        sized.append((replace(one, spec=wide), residue))
    return sized, unmatched


def _planned(
    spec: AblationSpec,
    sized: Sequence[tuple[Enumerated[RunSpec], str]],
    costs: Mapping[str, Costs],
    seconds: Mapping[str, Calibration],
    folder: Path,
    ledger: Ledger,
) -> tuple[list[PlannedVariant], list[PlannedTrial]]:
    """The variants with their budget, and with what tuning chose; and the trials of tuning."""
    there = _folders(folder)
    planned: list[PlannedVariant] = []
    tuning: list[PlannedTrial] = []
    baseline = sized[0][0]
    for one, residue in sized:
        run = one.spec
        if spec.budget is not None:
            per_step = seconds[one.name].step if one.name in seconds else None
            run = with_budget(run, spec.budget, costs[one.name], per_step)
        chosen = Tuned(run, True, "")
        if spec.tune is not None:
            trials = {
                (tried.value, tried.seed): _trial(one.name, tried.seed, tried.spec, there)
                for tried in tries(run, spec.tune)
            }
            tuning += trials.values()
            chosen = tuned(run, spec.tune, spec.metric, partial(_outcome, folder, trials))
        planned.append(
            PlannedVariant(
                name=one.name,
                choices=one.choices,
                spec=chosen.spec or run,
                costs=costs[one.name],
                n_steps=ledger.n_steps(run),
                differences=in_words(baseline.spec, one.spec),
                residue=residue,
                tuned=chosen.told,
                ready=chosen.spec is not None,
                hopeless=chosen.spec is None and chosen.ended,
            )
        )
    return planned, tuning


def _trial(variant: str, seed: int, spec: RunSpec, there: Mapping[str, str]) -> PlannedTrial:
    digest = digest_of(spec)[:8]
    return PlannedTrial(there.get(digest) or f"{variant}-seed{seed}-{digest}", variant, seed, spec)


def _outcome(folder: Path, trials: Mapping[tuple[float, int], PlannedTrial], tried: Try) -> TrialOutcome:
    trial = trials[tried.value, tried.seed]
    return trial_outcome(TrialFolder(folder / "trials" / trial.name), trial.variant, trial.seed)


def in_words(baseline: RunSpec, variant: RunSpec) -> list[str]:
    """How a variant differs from the baseline; of a part that is another, not each of its options."""
    changes = list(differences(baseline.resolved(), variant.resolved()))
    replaced = [change.name.removesuffix(".type") for change in changes if change.name.endswith(".type")]
    told = []
    for change in changes:
        place = change.name.removesuffix(".type")
        within = any(place.startswith(f"{part}.") for part in replaced)
        if within or (place in replaced and not change.name.endswith(".type")) or place in ("$.name", "$.model.name"):
            continue
        told.append(f"{place.removeprefix('$.')}: {label_of(change.a)} -> {label_of(change.b)}")
    return told


def _folders(folder: Path) -> dict[str, str]:
    """The folders of trials that are there, by the hash at their end: a variant may have had another name."""
    trials = folder / "trials"
    names = sorted(entry.name for entry in trials.iterdir()) if trials.is_dir() else []
    return {match[1]: name for name in names if (match := re.search(r"-seed\d+-([0-9a-f]{8})$", name))}


def _same_data(planned: Sequence[PlannedVariant]) -> bool:
    """Whether trials of one seed see the same samples in the same order."""
    seen = {
        (variant.spec.model.context_length, *(getattr(variant.spec, name).model_dump_json() for name in _SAME_DATA))
        for variant in planned
    }
    return len(seen) == 1


def _check_metric(spec: AblationSpec, planned: Sequence[PlannedVariant]) -> None:
    """A loss per token says nothing across tokenizers."""
    tokenizers = {variant.spec.tokenizer.model_dump_json() for variant in planned}
    if len(tokenizers) > 1 and spec.metric in ("val/loss", "train/loss", "val/ema_loss"):
        reason = f"{spec.metric!r} is per token, and the tokenizers differ; compare val/bits_per_byte"
        raise SpecError([Problem(spec.name, "$.metric", reason)])


def _notes(found: Variants[RunSpec], planned: Sequence[PlannedVariant]) -> Iterator[str]:
    for axis, labels in found.axes.items():
        for label in labels:
            if not any(one.choices.get(axis) == label for one in (*found, *_merged(found))):
                yield f"{axis} {label} is in no variant"
    if len({variant.n_tokens for variant in planned}) > 1:
        yield "variants see different numbers of tokens: give a budget to make them equal"
    for variant in planned:
        if variant.costs.unknown:
            yield f"{variant.name}: FLOPs and memory cannot be told: {variant.costs.unknown}"


def _merged(found: Variants[RunSpec]) -> Iterator[Any]:
    for one in found:
        for choices in one.merged:
            yield Enumerated(one.name, choices, one.spec, one.digest)

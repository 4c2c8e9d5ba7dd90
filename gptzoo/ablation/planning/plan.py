"""The planner of an ablation: from its spec and the results so far to the trials to run next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from gptzoo.ablation.design.costs import CostCache
from gptzoo.ablation.design.enumeration import Variants, enumerate_variants
from gptzoo.ablation.design.metric_direction import is_higher_better
from gptzoo.ablation.design.optuna_search import (
    Search,
    Suggestion,
    baseline_values,
    ranges_as_choices,
    read_suggestions,
    require_optuna,
    suggested_points,
    with_known_choices,
    within_axes,
)
from gptzoo.ablation.design.spec_reader import SpecReader
from gptzoo.ablation.planning.baseline_lengths import check_lengths, plan_lengths
from gptzoo.ablation.planning.check_comparable import check_comparable
from gptzoo.ablation.planning.check_patterns import check_patterns
from gptzoo.ablation.planning.folder import with_recorded_axes
from gptzoo.ablation.planning.plan_types import Plan, PlannedTrial, PlannedVariant
from gptzoo.ablation.planning.plan_warnings import plan_warnings
from gptzoo.ablation.planning.prepare_variants import prepare_variants
from gptzoo.ablation.planning.seeds_seen import added_seeds, seeds_seen
from gptzoo.ablation.planning.task_axes import read_task_design
from gptzoo.ablation.planning.trial_names import TrialNames
from gptzoo.ablation.selection.halving_plan import HalvingPlan, pause_steps
from gptzoo.component import Config
from gptzoo.data.corpora.corpus import Corpus
from gptzoo.data.corpora.train_val import TrainValCorpus
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import AblationSpec, Mode
from gptzoo.spec.ablation_axes import AxisSpec
from gptzoo.spec.ablation_fairness import HalvingSpec
from gptzoo.spec.run import RunSpec

_DATA_FIELDS = ("corpus", "tokenizer", "batching")


def make_plan(spec: AblationSpec, folder: Path, *, costs: CostCache | None = None, scratch: Path | None = None) -> Plan:
    """Plan an ablation whose trials are in `folder`, where some may exist already. Raises InputError.

    A budget in seconds runs a calibration in `scratch` (default: a folder in `folder`). Pass the same `costs` to
    repeated calls, so that costs are computed once.
    """
    spec = with_recorded_axes(folder, spec)
    design = _read_design(spec, folder)
    enumerated = _enumerate(spec, design, spec.mode)
    costs = costs or CostCache()
    higher_is_better = is_higher_better(spec.metric, [variant.spec for variant in enumerated])
    # A search knows its variants one by one, so the axes over tasks are found in a design with every choice.
    tasks = read_task_design(spec, enumerated if spec.mode != "tpe" else _enumerate(spec, design, "one_at_a_time"))
    check_lengths(spec, higher_is_better=higher_is_better, task_axes=tasks.axes)
    prepared = prepare_variants(spec, enumerated, folder, scratch, costs, tasks, higher_is_better=higher_is_better)
    check_comparable(spec, prepared.variants, enumerated.baseline, costs)
    # A variant that a search suggests later fails alone: it must not end the search.
    checked = [v for v in prepared.variants if spec.mode != "tpe" or v.name == enumerated.baseline]
    check_patterns(spec, checked, costs)
    names = TrialNames(folder)
    baseline = next(variant for variant in prepared.variants if variant.name == enumerated.baseline)
    plan = Plan(
        spec=spec,
        variants=prepared.variants,
        baseline=enumerated.baseline,
        axes=enumerated.axes,
        factorial=enumerated.complete and spec.halving is None,
        paired=_have_same_data(prepared.variants, enumerated.baseline),
        exclusions=[*enumerated.exclusions, *prepared.unmatched],
        merged={variant.name: variant.merged for variant in enumerated if variant.merged},
        trials=_trials(prepared.variants, spec.seeds, names),
        tuning=prepared.tuning,
        notes=list(_notes(enumerated, prepared.variants)),
        higher_is_better=higher_is_better,
        task_axes=tasks.axes,
        baseline_lengths=plan_lengths(spec, baseline, names),
    )
    if spec.mode == "tpe":
        plan = replace(plan, search=_search(plan, design, enumerated))
    plan = plan if spec.halving is None else _with_halving(plan, spec.halving, folder, names)
    seen = seeds_seen(folder, len(spec.seeds))
    return replace(plan, seeds_seen=seen, warnings=[*added_seeds(spec, seen), *plan_warnings(plan)])


@dataclass(frozen=True)
class _Design:
    """The axes with their choices and, in mode tpe, the suggestions so far."""

    axes: Mapping[str, AxisSpec]
    suggestions: Sequence[Suggestion] = ()  # those that the axes allow
    n_stored: int = 0  # all suggestions in the folder


def _read_design(spec: AblationSpec, folder: Path) -> _Design:
    if spec.mode != "tpe":
        return _Design(spec.axes)
    stored = read_suggestions(folder)
    suggestions = within_axes(stored, spec.axes)
    base = SpecReader(spec.folder).read(RunSpec, dict(spec.base)).resolved()
    axes = ranges_as_choices(spec.axes, suggestions, baseline_values(spec.axes, base, spec.baseline))
    return _Design(axes, suggestions, len(stored))


def _enumerate(spec: AblationSpec, design: _Design, mode: Mode) -> Variants[RunSpec]:
    variants = enumerate_variants(
        RunSpec,
        dict(spec.base),
        design.axes,
        mode=mode,
        n=spec.n_variants,
        seed=spec.draw_seed,
        baseline=spec.baseline,
        exclude=spec.exclude,
        folder=spec.folder,
        suggested=suggested_points(design.suggestions),
    )
    return _with_held_out(variants, spec)


def _search(plan: Plan, design: _Design, enumerated: Variants[RunSpec]) -> Search:
    assert plan.spec.n_variants is not None  # AblationSpec requires it in mode tpe
    planned = {variant.name for variant in plan.variants}  # without those whose size cannot be matched
    names = [name if name in planned else None for name in enumerated.at_points]
    suggestions = with_known_choices(design.suggestions, enumerated.axes)
    search = Search(plan.spec.n_variants, plan.baseline, suggestions, names, design.n_stored)
    if not search.complete:
        require_optuna()
    return search


def _trials(variants: Sequence[PlannedVariant], seeds: Sequence[int], names: TrialNames) -> list[PlannedTrial]:
    """Return the trials of the tuned variants, seed by seed: every variant has one result before any has two."""
    return [
        names.planned_trial(variant.name, seed, variant.spec.model_copy(update={"seed": seed}))
        for seed in sorted(seeds)
        for variant in variants
        if variant.is_tuned
    ]


def _with_halving(plan: Plan, spec: HalvingSpec, folder: Path, names: TrialNames) -> Plan:
    """Add the rungs so far and the trials of the current rung. Only finalists stay in the final comparison."""
    trials = _trials(plan.variants, spec.seeds, names)
    searching = plan.search is not None and not plan.search.complete
    halving = HalvingPlan(
        eta=spec.eta,
        baseline=plan.baseline,
        seeds=sorted(spec.seeds),
        steps=pause_steps({variant.name: (variant.spec, variant.n_steps) for variant in plan.variants}, spec),
        trials=[{"variant": trial.variant, "seed": trial.seed, "folder": trial.name} for trial in trials],
        n_expected=plan.search.n_wanted if searching and plan.search else len(plan.variants) - 1,
        searching=searching,
        higher_is_better=plan.higher_is_better,
    )
    selection = halving.evaluate(folder, plan.spec.metric)
    compared = {plan.baseline, *(selection.finalists or ())}
    entries = selection.rungs[-1].entries if selection.finalists is None else ()
    steps = {entry.variant: entry.step for entry in entries}
    return replace(
        plan,
        trials=[trial for trial in plan.trials if trial.variant in compared],
        halving=halving,
        selection=selection,
        selecting=[
            replace(trial, pause_at=steps[trial.variant], rung=len(selection.rungs))
            for trial in trials
            if trial.variant in steps
        ],
    )


def _have_same_data(variants: Sequence[PlannedVariant], baseline: str) -> bool:
    """Return True if trials with the same seed see the same samples in the same order, on each task."""
    data: dict[str, set[object]] = {}  # by the variant that others are compared with
    for variant in variants:
        fields = (getattr(variant.spec, name).model_dump_json() for name in _DATA_FIELDS)
        data.setdefault(variant.reference or baseline, set()).add((variant.spec.model.context_length, *fields))
    return all(len(found) == 1 for found in data.values())


def _with_held_out(enumerated: Variants[RunSpec], spec: AblationSpec) -> Variants[RunSpec]:
    """Return the variants with the held-out text that the ablation names, if it names one."""
    if spec.held_out is None:
        return enumerated
    held_out: Config = spec.held_out

    def measured_there(run: RunSpec) -> RunSpec:
        for config in (held_out, run.corpus):
            if cast("type[Corpus]", config.component).provides != "documents":
                reason = f"corpus {config.type!r} generates its own held-out samples. Remove held_out"
                raise SpecError([Problem(spec.name, "$.held_out", reason)])
        corpus = TrainValCorpus.Config(type=TrainValCorpus.name, train=run.corpus, val=held_out)
        return run.model_copy(update={"corpus": corpus})

    return replace(
        enumerated, items=[replace(variant, spec=measured_there(variant.spec)) for variant in enumerated.items]
    )


def _notes(enumerated: Variants[RunSpec], variants: Sequence[PlannedVariant]) -> Iterator[str]:
    points = [choices for variant in enumerated for choices in (variant.choices, *variant.merged)]
    for axis, labels in enumerated.axes.items():
        for label in labels:
            if not any(choices.get(axis) == label for choices in points):
                yield f"no variant has {axis} {label}"
    if any(variant.spec.early_stopping is not None for variant in variants):
        yield "early stopping may end trials at different steps, before their learning rate has decayed"
    for variant in variants:
        if variant.costs.unknown:
            yield f"{variant.name}: cannot count FLOPs and memory: {variant.costs.unknown}"

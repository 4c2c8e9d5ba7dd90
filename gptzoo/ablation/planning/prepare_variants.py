"""The preparation of variants for a fair comparison: size matching, budgets and learning-rate tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gptzoo.ablation.design.axes import label_of
from gptzoo.ablation.design.budget import with_budget
from gptzoo.ablation.design.costs import CostCache
from gptzoo.ablation.design.enumeration import EnumeratedVariant, Variants
from gptzoo.ablation.design.recommended import left_out
from gptzoo.ablation.design.size_matching import match_size, model_size
from gptzoo.ablation.design.spec_reader import SpecReader
from gptzoo.ablation.planning.calibrate import Calibration, calibrate
from gptzoo.ablation.planning.plan_types import PlannedTrial, PlannedVariant
from gptzoo.ablation.planning.task_axes import TaskDesign, task_metrics
from gptzoo.ablation.planning.trial_names import TrialNames
from gptzoo.ablation.planning.tune_variants import tune_variants
from gptzoo.ablation.records.outcome import Exclusion
from gptzoo.ablation.selection.learning_rate_grid import GridResult
from gptzoo.errors import SpecError
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.run import RunSpec
from gptzoo.utils.json_diff import differences


@dataclass(frozen=True)
class PreparedVariants:
    """The variants as they are trained, in the order of the design, and the trials that tune them."""

    variants: Sequence[PlannedVariant]
    tuning: Sequence[PlannedTrial]
    unmatched: Sequence[Exclusion]  # variants whose size cannot be matched to the baseline


def prepare_variants(
    spec: AblationSpec,
    enumerated: Variants[RunSpec],
    folder: Path,
    scratch: Path | None,
    costs: CostCache,
    tasks: TaskDesign,
    *,
    higher_is_better: bool,
) -> PreparedVariants:
    """Apply the ablation's `match`, `budget` and `tune` to the enumerated variants. Raises SpecError.

    The results of tuning are read from `folder`. A budget in seconds runs a calibration in `scratch`, or else in
    `folder`/calibration.
    """
    # Computing the costs isolated first makes sure that size matching, in this process, runs no component that crashes.
    costs.compute_isolated({variant.name: variant.spec for variant in enumerated})
    sized, unmatched = _match_sizes(spec, enumerated, costs, tasks)
    costs.compute_isolated({variant.name: variant.spec for variant, _ in sized})
    runs = {variant.name: variant.spec for variant, _ in sized}
    calibrations: Mapping[str, Calibration] = {}
    if spec.budget is not None and spec.budget.seconds is not None:
        calibrations = calibrate(spec, runs, scratch or folder / "calibration")
    if spec.budget is not None:
        seconds = {name: calibration.step for name, calibration in calibrations.items()}
        runs = {name: with_budget(run, spec.budget, costs.costs(run), seconds.get(name)) for name, run in runs.items()}
    tuning: list[PlannedTrial] = []
    chosen = {name: GridResult(run, True, "") for name, run in runs.items()}
    if spec.tune is not None:
        tuning, chosen = tune_variants(
            runs, spec.tune, spec.metric, folder, TrialNames(folder), higher_is_better=higher_is_better
        )
    planned: list[PlannedVariant] = []
    specs = {variant.name: variant.spec for variant, _ in sized}
    base = SpecReader(spec.folder).read(RunSpec, dict(spec.base))
    for variant, residue in sized:
        run, result = runs[variant.name], chosen[variant.name]
        reference = tasks.reference_of(variant.name, enumerated.baseline)
        planned.append(
            PlannedVariant(
                name=variant.name,
                choices=variant.choices,
                spec=result.spec or run,
                costs=costs.costs(variant.spec),
                n_steps=costs.n_steps(run),
                differences=describe_differences(specs[reference], variant.spec),
                residue=residue,
                tuned=result.description,
                is_tuned=result.spec is not None,
                tuning_failed=result.spec is None and result.complete,
                tuning=result.tuning,
                recommended=variant.recommended,
                left_out=left_out(run, base, None if spec.tune is None else spec.tune.field),
                reference="" if reference == enumerated.baseline else reference,
                task_metrics=task_metrics(variant.spec, costs),
            )
        )
    order = {variant.name: index for index, variant in enumerate(enumerated)}
    planned.sort(key=lambda variant: order[variant.name])
    return PreparedVariants(planned, tuning, unmatched)


def describe_differences(baseline: RunSpec, variant: RunSpec) -> list[str]:
    """Return a variant's differences from the baseline, such as "model.norm: pre_ln -> post_ln".

    A component of another type is one difference; its options are not listed.
    """
    changes = list(differences(baseline.resolved(), variant.resolved()))
    replaced = [change.name.removesuffix(".type") for change in changes if change.name.endswith(".type")]
    lines = []
    for change in changes:
        path = change.name.removesuffix(".type")
        is_option = any(path.startswith(f"{component}.") for component in replaced)
        is_shadowed = path in replaced and not change.name.endswith(".type")
        if is_option or is_shadowed or path in ("$.name", "$.model.name"):
            continue
        lines.append(f"{path.removeprefix('$.')}: {label_of(change.a)} -> {label_of(change.b)}")
    return lines


def _match_sizes(
    spec: AblationSpec, enumerated: Variants[RunSpec], costs: CostCache, tasks: TaskDesign
) -> tuple[list[tuple[EnumeratedVariant[RunSpec], str]], list[Exclusion]]:
    """Match the sizes of the variants to the variant that each is compared with. The baseline comes first.

    Return each variant with a description of the remaining difference in size, and the variants that cannot be matched.
    """
    baseline = next(variant for variant in enumerated if variant.name == enumerated.baseline)
    others = [variant for variant in enumerated if variant is not baseline]
    if spec.match is None:
        return [(variant, "") for variant in (baseline, *others)], []
    specs = {variant.name: variant.spec for variant in enumerated}
    references = {name: tasks.reference_of(name, enumerated.baseline) for name in specs}
    targets = {name: model_size(specs[name], spec.match, costs) for name in {*references.values()}}
    sized, unmatched = [(baseline, "")], []
    for variant in others:
        if variant.name in targets:  # the baseline of a task
            sized.append((variant, ""))
            continue
        try:
            run, residue = match_size(variant.spec, targets[references[variant.name]], spec.match, costs)
        except SpecError as error:
            reason = f"its size cannot be matched to the baseline: {error.problems[0].reason}"
            unmatched.append(Exclusion(variant.choices, reason))
            continue
        sized.append((replace(variant, spec=run), residue))
    return sized, unmatched

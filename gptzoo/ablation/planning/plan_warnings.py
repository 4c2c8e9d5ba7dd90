"""Reasons to doubt a comparison that are known before it runs. The folder stores them with the plan."""

from __future__ import annotations

from collections.abc import Iterator

from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.warnings.costs import missed_budget
from gptzoo.ablation.warnings.recommended import settings_left_out
from gptzoo.ablation.warnings.schedules import (
    ScheduledRun,
    confounded_warmups,
    impossible_schedules,
    rungs_in_warmup,
    unequal_lengths,
    unequal_schedules,
)
from gptzoo.errors import Problem, SpecError


def plan_warnings(plan: Plan) -> Iterator[ComparisonWarning]:
    """Yield the warnings of a plan. Raises SpecError if it has neither anything to compare nor another purpose.

    Those that follow from the variants themselves, such as their sizes, are not among them.
    """
    yield from _single_variant(plan)
    runs = _scheduled_runs(plan)
    yield from impossible_schedules(runs)
    yield from unequal_schedules(runs)
    if not any(axis.partition(".")[0] == "schedule" for axis in plan.axes):  # such an axis varies the warmup on purpose
        yield from confounded_warmups(runs, plan.baseline)
    yield from unequal_lengths(
        runs[plan.baseline], plan.baseline, {length.name: length.n_steps for length in plan.baseline_lengths}
    )
    if plan.spec.budget is not None:
        yield from missed_budget([variant.as_variant() for variant in plan.variants], plan.spec.budget)
    yield from settings_left_out({variant.name: variant.left_out for variant in plan.variants})
    if plan.halving is not None:
        yield from rungs_in_warmup(runs, plan.halving.steps)


def _single_variant(plan: Plan) -> Iterator[ComparisonWarning]:
    spec = plan.spec
    if len(plan.variants) > 1 or spec.mode == "tpe":  # the search will add variants
        return
    n_excluded = len(plan.exclusions)
    excluded = f" ({n_excluded} excluded, for example: {plan.exclusions[0].reason})" if n_excluded else ""
    if len(spec.seeds) == 1 and spec.tune is None:
        reason = (
            f"the ablation has one variant{excluded} and one seed, so there is nothing to compare. Add choices to an "
            "axis, add seeds to measure the noise between seeds, or train the base with gptzoo train"
        )
        raise SpecError([Problem(spec.name, "$.axes", reason)])
    purpose = "it only tunes this variant" if spec.tune is not None else "it only measures the noise between seeds"
    yield ComparisonWarning(
        "single variant",
        f"The ablation has one variant{excluded}, so it compares nothing: {purpose}. To compare, add choices to an "
        "axis.",
    )


def _scheduled_runs(plan: Plan) -> dict[str, ScheduledRun]:
    return {
        variant.name: ScheduledRun(
            variant.spec.schedule,
            variant.n_steps,
            differs_elsewhere=any(not line.startswith("schedule") for line in variant.differences),
        )
        for variant in plan.variants
    }

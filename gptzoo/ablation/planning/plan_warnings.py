"""Reasons to doubt a comparison that are known before it runs: schedules, rungs, and too few variants."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from gptzoo.ablation.planning.plan_types import Plan, PlannedVariant
from gptzoo.errors import Problem, SpecError
from gptzoo.training.optim.schedule_shape import schedule_shape, schedule_warnings, unequal_shares

_MAX_LISTED_VARIANTS = 6


def plan_warnings(plan: Plan) -> Iterator[str]:
    """Yield the warnings of a plan. Raises SpecError if it has neither anything to compare nor another purpose."""
    yield from _single_variant(plan)
    yield from _impossible_schedules(plan.variants)
    yield from _unequal_schedules(plan.variants)
    if plan.halving is not None:
        yield from _rungs_in_warmup(plan.variants, plan.halving.steps)


def _single_variant(plan: Plan) -> Iterator[str]:
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
    yield (
        f"the ablation has one variant{excluded}, so it compares nothing: {purpose}. To compare, add choices to an axis"
    )


def _impossible_schedules(variants: Sequence[PlannedVariant]) -> Iterator[str]:
    """Yield each warning about a schedule once, with the variants that it concerns."""
    names: dict[str, list[str]] = {}
    for variant in variants:
        for warning in schedule_warnings(variant.spec.schedule, variant.n_steps):
            names.setdefault(warning, []).append(variant.name)
    for warning, concerned in names.items():
        yield f"{_listed(concerned, len(variants))}: {warning}"


def _unequal_schedules(variants: Sequence[PlannedVariant]) -> Iterator[str]:
    """Yield a warning for each schedule that has another shape in variants of another length."""
    groups: dict[str, list[PlannedVariant]] = {}
    for variant in variants:
        groups.setdefault(json.dumps(variant.spec.schedule.model_dump(mode="json")), []).append(variant)
    for group in groups.values():
        n_steps = {variant.name: variant.n_steps for variant in group}
        if len(set(n_steps.values())) > 1 and (warning := unequal_shares(group[0].spec.schedule, n_steps)):
            yield warning


def _rungs_in_warmup(variants: Sequence[PlannedVariant], steps: Mapping[str, Sequence[int]]) -> Iterator[str]:
    inside = {}
    for variant in variants:
        peak_step = schedule_shape(variant.spec.schedule, variant.n_steps).peak_step
        if steps[variant.name][0] <= peak_step:
            inside[variant.name] = f"rung 1 is at step {steps[variant.name][0]:,}, and the warmup ends at {peak_step:,}"
    if inside:
        yield (
            f"{_listed(list(inside), len(variants))}: {next(iter(inside.values()))}. The rung ranks runs whose "
            "learning rate has not reached its peak. Set a later first rung or a shorter warmup"
        )


def _listed(names: Sequence[str], n_variants: int) -> str:
    if len(names) == n_variants > 1:
        return "all variants"
    return ", ".join(names) if len(names) <= _MAX_LISTED_VARIANTS else f"{len(names)} variants"

"""Reasons to doubt a comparison that are known before it runs: schedules, rungs, and too few variants."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from gptzoo.ablation.planning.plan_types import Plan, PlannedVariant
from gptzoo.errors import Problem, SpecError
from gptzoo.training.optim.schedule_shape import schedule_shape, schedule_warnings, unequal_shares

_MAX_LISTED_VARIANTS = 6
_MAX_BUDGET_ERROR = 0.05  # of a budget


def plan_warnings(plan: Plan) -> Iterator[str]:
    """Yield the warnings of a plan. Raises SpecError if it has neither anything to compare nor another purpose."""
    yield from _single_variant(plan)
    yield from _impossible_schedules(plan.variants)
    yield from _unequal_schedules(plan.variants)
    yield from _missed_budget(plan)
    yield from _left_out(plan.variants)
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


def _left_out(variants: Sequence[PlannedVariant]) -> Iterator[str]:
    """Yield each recommended setting that is left out, with the variants that it concerns."""
    names: dict[str, list[str]] = {}
    for variant in variants:
        for missing in variant.left_out:
            names.setdefault(missing, []).append(variant.name)
    for missing, concerned in names.items():
        yield (
            f"{_listed(concerned, len(variants))}: {missing}. The comparison may be one of this setting rather than "
            'of the component. Set "recommended": true on the axis, give the setting in the choice, or tune it'
        )


def _missed_budget(plan: Plan) -> Iterator[str]:
    """Yield a warning if the budget is so few steps that whole steps are far from it."""
    budget = plan.spec.budget
    if budget is None:
        return
    if budget.seconds is not None:
        coarse = {variant.name: variant.n_steps for variant in plan.variants if variant.n_steps < 1 / _MAX_BUDGET_ERROR}
        if coarse:
            name = min(coarse, key=coarse.__getitem__)
            yield (
                f"the budget of {budget.seconds:g} seconds is only {_steps(coarse[name])} of {name}, so the variants "
                "get unequal budgets. Use a larger budget"
            )
        return
    wanted = budget.tokens if budget.tokens is not None else budget.flops
    costs = {v.name: v.n_tokens if budget.tokens is not None else v.flops for v in plan.variants}
    shares = {name: cost / wanted for name, cost in costs.items() if cost is not None and wanted}
    if not shares or max(abs(share - 1) for share in shares.values()) <= _MAX_BUDGET_ERROR:
        return
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    n_steps = {variant.name: variant.n_steps for variant in plan.variants}
    parts = [f"{low} gets {shares[low]:.0%} of it ({_steps(n_steps[low])})"]
    parts += [f"{high} {shares[high]:.0%} ({_steps(n_steps[high])})"] if high != low else []
    yield (
        f"the budget of {wanted:g} {'tokens' if budget.tokens is not None else 'FLOPs'} is few steps, and only whole "
        f"steps are trained: {' and '.join(parts)}. Use a larger budget"
    )


def _steps(n_steps: int) -> str:
    return "1 step" if n_steps == 1 else f"{n_steps:,} steps"


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

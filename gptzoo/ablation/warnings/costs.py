"""Warnings about unequal costs: parameters, FLOPs and training tokens of variants, and budgets of few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from gptzoo.ablation.records.outcome import Variant
from gptzoo.ablation.records.warning import ComparisonWarning, WarningKind
from gptzoo.ablation.wording import format_count, listed
from gptzoo.spec.ablation_fairness import BudgetSpec
from gptzoo.utils.units import scaled

MIN_RELATIVE_DIFFERENCE = 0.01
"""Share of a cost of the baseline up to which costs count as equal: matching and rounding leave about as much."""
_MAX_BUDGET_ERROR = 0.05  # of a budget


def unequal_parameters(variants: Sequence[Variant], baseline: str) -> Iterator[ComparisonWarning]:
    """Yield a warning if variants have other numbers of parameters than the baseline, with the differences."""
    sizes = {variant.name: variant.n_parameters for variant in variants}
    yield from _unequal(
        "parameters",
        sizes,
        baseline,
        "The variants differ in size: {}. A difference in the metric may come from the size alone. To compare at equal "
        'size, adjust a width, as "match" in the spec of an ablation does.',
        lambda n: f"{n:,.0f} parameters",
    )


def unequal_flops(variants: Sequence[Variant], baseline: str, budget: BudgetSpec | None) -> Iterator[ComparisonWarning]:
    """Yield a warning if variants train with other numbers of FLOPs than the baseline, with the differences.

    Under a budget of FLOPs or seconds there is none: that budget is equal.
    """
    if budget is not None and budget.tokens is None:
        return
    totals = {variant.name: variant.flops for variant in variants}
    per_token = {variant.name: variant.flops_per_token for variant in variants}
    is_total = None not in totals.values()
    yield from _unequal(
        "flops",
        totals if is_total else per_token,
        baseline,
        "The variants differ in training compute: {}. A difference in the metric may come from the compute alone. To "
        'compare at equal compute, set a budget of FLOPs, such as {{"flops": 1e13}}.',
        lambda n: f"{scaled(n)}FLOPs{'' if is_total else ' per token'}",
    )


def unequal_tokens(
    variants: Sequence[Variant], baseline: str, budget: BudgetSpec | None
) -> Iterator[ComparisonWarning]:
    """Yield a warning if variants train on other numbers of tokens than the baseline. With a budget, there is none."""
    if budget is not None:
        return
    yield from _unequal(
        "tokens",
        {variant.name: variant.tokens for variant in variants},
        baseline,
        "The variants are trained on different numbers of tokens: {}. A difference in the metric may come from the "
        "length of training alone. Give all runs the same length, or set a budget.",
        lambda n: f"{n:,.0f} tokens",
    )


def missed_budget(variants: Sequence[Variant], budget: BudgetSpec) -> Iterator[ComparisonWarning]:
    """Yield a warning if the budget is so few steps that whole steps are far from it."""
    n_steps = {variant.name: variant.steps for variant in variants if variant.steps is not None}
    if budget.seconds is not None:
        coarse = {name: n for name, n in n_steps.items() if n < 1 / _MAX_BUDGET_ERROR}
        if coarse:
            name = min(coarse, key=coarse.__getitem__)
            yield ComparisonWarning(
                "budget",
                f"The budget of {budget.seconds:g} seconds is only {format_count(coarse[name], 'step')} of {name}, so "
                "the variants get unequal budgets. Use a larger budget.",
                list(coarse),
            )
        return
    wanted = budget.tokens if budget.tokens is not None else budget.flops
    costs = {v.name: v.tokens if budget.tokens is not None else v.flops for v in variants}
    shares = {name: cost / wanted for name, cost in costs.items() if cost is not None and wanted}
    if not shares or max(abs(share - 1) for share in shares.values()) <= _MAX_BUDGET_ERROR:
        return
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    parts = [f"{low} gets {shares[low]:.0%} of it ({format_count(n_steps[low], 'step')})"]
    parts += [f"{high} {shares[high]:.0%} ({format_count(n_steps[high], 'step')})"] if high != low else []
    yield ComparisonWarning(
        "budget",
        f"The budget of {wanted:g} {'tokens' if budget.tokens is not None else 'FLOPs'} is few steps, and only whole "
        f"steps are trained: {' and '.join(parts)}. Use a larger budget.",
        [name for name, share in shares.items() if abs(share - 1) > _MAX_BUDGET_ERROR],
    )


def _unequal(
    kind: WarningKind,
    values: Mapping[str, float | None],
    baseline: str,
    text: str,
    format_value: Callable[[float], str],
) -> Iterator[ComparisonWarning]:
    """Yield a warning if values differ from that of the baseline. `text` has a place for the list of the values."""
    reference = values.get(baseline)
    if not reference:
        return
    shares = {name: value / reference - 1 for name, value in values.items() if value is not None}
    others = {name: share for name, share in shares.items() if abs(share) > MIN_RELATIVE_DIFFERENCE}
    if others:
        largest = sorted(others, key=lambda name: -abs(others[name]))
        by_value: dict[str, list[str]] = {}
        for name in largest:
            by_value.setdefault(f"{format_value(values[name] or 0)} ({_percent(others[name])})", []).append(name)
        parts = [
            f"{' and '.join(names) if len(names) == 2 else listed(names)} {'has' if len(names) == 1 else 'have'} {text}"
            for text, names in by_value.items()
        ]
        compared = f"{listed(parts)}, against {format_value(reference)} of {baseline}"
        yield ComparisonWarning(kind, text.format(compared), largest)


def _percent(share: float) -> str:
    digits = 0 if abs(share) >= 0.1 else 1
    return f"{100 * share:+.{digits}f}%".replace("-", "−")

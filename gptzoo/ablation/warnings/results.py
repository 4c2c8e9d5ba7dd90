"""All warnings of an ablation's results, in the order of their weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.warnings.costs import unequal_flops, unequal_parameters, unequal_tokens
from gptzoo.ablation.warnings.texts import (
    changed_texts,
    contaminated_texts,
    unequal_tokenizers,
    unequal_windows,
    unknown_texts,
)
from gptzoo.ablation.warnings.trials import failed_seeds, run_warnings
from gptzoo.ablation.warnings.tuning import best_at_edge, failed_values, field_without_effect
from gptzoo.ablation.wording import format_count
from gptzoo.spec.ablation_fairness import BudgetSpec


def variant_warnings(
    variants: Sequence[Variant], baseline: str, *, metric: str, budget: BudgetSpec | None
) -> Iterator[ComparisonWarning]:
    """Yield the warnings that follow from the variants alone, before and after they are trained."""
    groups: dict[str, list[Variant]] = {}  # by the variant that they are compared with
    for variant in variants:
        groups.setdefault(variant.reference or baseline, []).append(variant)
    checks: list[Callable[[list[Variant], str], Iterator[ComparisonWarning]]] = [
        lambda group, reference: unequal_tokenizers(group, reference, metric),
        lambda group, reference: unequal_windows(group, reference, metric),
        lambda group, reference: unequal_tokens(group, reference, budget),
        lambda group, reference: unequal_flops(group, reference, budget),
        unequal_parameters,
    ]
    for check in checks:
        found = [of for reference, group in groups.items() if (of := list(check(group, reference)))]
        if found:
            yield from (_with_other_tasks(warning, found[1:]) for warning in found[0])


def _with_other_tasks(warning: ComparisonWarning, others: Sequence[Sequence[ComparisonWarning]]) -> ComparisonWarning:
    """Return a warning on one task that stands for those of the same kind on other tasks."""
    if not others:
        return warning
    variants = [name for of in others for other in of for name in other.variants]
    text = f"{warning.text} It is similar on {format_count(len(others), 'other task')}."
    return replace(warning, text=text, variants=list(dict.fromkeys([*warning.variants, *variants])))


def result_warnings(outcome: Outcome) -> Iterator[ComparisonWarning]:
    """Yield the reasons to doubt the comparison as a whole: those of the plan, of the variants and of the trials."""
    yield from failed_seeds(outcome)
    yield from outcome.warnings
    yield from best_at_edge(outcome)
    yield from field_without_effect(outcome)
    yield from failed_values(outcome)
    budget = outcome.spec.get("budget")
    yield from variant_warnings(
        outcome.variants,
        outcome.baseline,
        metric=outcome.metric,
        budget=None if budget is None else BudgetSpec.model_validate(budget),
    )
    yield from contaminated_texts(outcome)
    yield from changed_texts(outcome)
    yield from unknown_texts(outcome)
    yield from run_warnings(outcome)

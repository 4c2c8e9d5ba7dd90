"""Warnings about grids of a tuned field: a best value at the edge, a field without effect, failed values."""

from __future__ import annotations

from collections.abc import Iterator

from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.tuning import Tuning
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.wording import listed


def tuned_variants(outcome: Outcome) -> list[tuple[Variant, Tuning]]:
    """Return the variants that have a grid, each with its grid."""
    return [(variant, variant.tuning) for variant in outcome.variants if variant.tuning is not None]


def best_at_edge(outcome: Outcome) -> Iterator[ComparisonWarning]:
    """Yield a warning if the best value of a grid is its lowest or its highest."""
    at_edge = [(variant, tuning) for variant, tuning in tuned_variants(outcome) if tuning.edge and tuning.has_effect]
    if at_edge:
        names = [
            f"{variant.name} ({tuning.best:g}, the {tuning.edge} of {len(tuning.grid)}"
            f"{f'; not extended further: {tuning.stopped}' if tuning.stopped else ''})"
            for variant, tuning in at_edge
        ]
        advice = "Choose other factors" if at_edge[0][1].stopped else 'Set "extend": true in tune, or other factors'
        yield ComparisonWarning(
            "learning rate",
            f"The best {at_edge[0][1].field} is at the edge of the grid of {listed(names)}. A better value may lie "
            f"beyond, so these variants may be better than they look, and the comparison is not to be trusted. "
            f"{advice}.",
            [variant.name for variant, _ in at_edge],
        )


def field_without_effect(outcome: Outcome) -> Iterator[ComparisonWarning]:
    """Yield a warning if all values of a grid have the same result, bit for bit."""
    tuned = tuned_variants(outcome)
    if names := [variant.name for variant, tuning in tuned if not tuning.has_effect]:
        yield ComparisonWarning(
            "learning rate",
            f"{tuned[0][1].field} has no effect on {listed(names)}: all values of the grid have the same "
            f"{outcome.metric}, bit for bit.",
            names,
        )


def failed_values(outcome: Outcome) -> Iterator[ComparisonWarning]:
    """Yield a warning if values of a grid could not be chosen, because their trials failed."""
    failed = {
        variant.name: (n_failed, tuning)
        for variant, tuning in tuned_variants(outcome)
        if tuning.best is not None and (n_failed := sum(value.mean is None for value in tuning.grid))
    }
    if failed:
        _, tuning = next(iter(failed.values()))
        names = [f"{name} ({n_failed:,} of {len(tuning.grid)})" for name, (n_failed, tuning) in failed.items()]
        yield ComparisonWarning(
            "learning rate",
            f"Some values of {tuning.field} failed in the tuning of {listed(names)}, and were not eligible.",
            list(failed),
        )

"""Warnings of a report: reasons to doubt the comparison as a whole, from the plan, the tuning and the runs."""

from __future__ import annotations

from collections.abc import Iterator

from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.tuning import Tuning

_MAX_LISTED = 6


def report_warnings(outcome: Outcome) -> Iterator[str]:
    """Yield the warnings of a report. Each is a complete sentence."""
    for warning in (*outcome.warnings, *_tuning_warnings(outcome), *_run_warnings(outcome)):
        yield f"Warning: {warning.rstrip('.')}."


def tuned_variants(outcome: Outcome) -> list[tuple[Variant, Tuning]]:
    """Return the variants that have a grid, each with its grid."""
    return [(variant, variant.tuning) for variant in outcome.variants if variant.tuning is not None]


def _tuning_warnings(outcome: Outcome) -> Iterator[str]:
    tuned = tuned_variants(outcome)
    at_edge = [(variant, tuning) for variant, tuning in tuned if tuning.edge and tuning.has_effect]
    if at_edge:
        names = [
            f"{variant.name} ({tuning.best:g}, the {tuning.edge} of {len(tuning.grid)}"
            f"{f'; not extended further: {tuning.stopped}' if tuning.stopped else ''})"
            for variant, tuning in at_edge
        ]
        advice = "Choose other factors" if at_edge[0][1].stopped else 'Set "extend": true in tune, or other factors'
        yield (
            f"the best {at_edge[0][1].field} is at the edge of the grid of {_listed(names)}. A better value may lie "
            f"beyond, so these variants may be better than they look, and the comparison is not to be trusted. {advice}"
        )
    if without_effect := [variant.name for variant, tuning in tuned if not tuning.has_effect]:
        yield (
            f"{tuned[0][1].field} has no effect on {_listed(without_effect)}: all values of the grid have the same "
            f"{outcome.metric}, bit for bit"
        )
    best_failed = [
        f"{variant.name} ({failed:,} of {len(tuning.grid)})"
        for variant, tuning in tuned
        if tuning.best is not None and (failed := sum(value.mean is None for value in tuning.grid))
    ]
    if best_failed:
        yield (
            f"some values of {tuned[0][1].field} failed in the tuning of {_listed(best_failed)}, and were not eligible"
        )


def _run_warnings(outcome: Outcome) -> Iterator[str]:
    """Yield each warning of the trials once for each variant."""
    for variant in outcome.variants:
        messages: dict[str, list[int]] = {}
        for trial in outcome.trials_of(variant.name):
            for message in trial.warnings:
                messages.setdefault(message, []).append(trial.seed)
        for message, seeds in messages.items():
            yield f"{variant.name}, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}: {message}"


def _listed(names: list[str]) -> str:
    n_more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {n_more} more" if n_more > 0 else "")

"""Warnings about the trials of an ablation: seeds without a result, and warnings of single runs."""

from __future__ import annotations

from collections.abc import Iterator

from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.wording import describe_failures


def failed_seeds(outcome: Outcome) -> Iterator[ComparisonWarning]:
    """Yield a warning for each variant with trials that ended without a result."""
    for variant in outcome.variants:
        if failed := outcome.failures(variant.name):
            n_trials = len(outcome.trials_of(variant.name))
            rest = ""
            if outcome.endpoints(variant.name):
                rest = " Its results come from its other runs only, which makes a variant that often fails look better."
            yield ComparisonWarning(
                "failed seeds", f"{variant.name}: {describe_failures(failed, n_trials)}.{rest}", [variant.name]
            )


def run_warnings(outcome: Outcome) -> Iterator[ComparisonWarning]:
    """Yield each warning of the trials once for each variant, such as weights that training did not change."""
    for variant in outcome.variants:
        messages: dict[str, list[int]] = {}
        for trial in outcome.trials_of(variant.name):
            for message in trial.warnings:
                messages.setdefault(message, []).append(trial.seed)
        for message, seeds in messages.items():
            listed_seeds = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
            text = f"{variant.name}, {listed_seeds}: {message.rstrip('.')}."
            yield ComparisonWarning("run", text, [variant.name])

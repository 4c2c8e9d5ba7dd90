"""Verdicts as sentences: the finding, its uncertainty, and for "cannot tell" the number of seeds that would decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from gptzoo.ablation.records.analysis import Estimate, Verdict
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.statistics.multiple_comparisons import CorrectedContrast
from gptzoo.ablation.wording import describe_failures, format_count, quantity_of

_MAX_ADVISED_SEEDS = 1000  # a recommendation to train 22,044 more seeds helps nobody


class MoreSeeds(NamedTuple):
    """The number of additional seeds that would decide a "cannot tell", and the verdict that they would give."""

    n: int
    verdict: Verdict


def verdict_sentence(
    subject: str,
    reference: str,
    corrected: CorrectedContrast,
    *,
    metric: str,
    margin: float,
    more_seeds: MoreSeeds | None,
) -> str:
    """Return a verdict as a sentence.

    For example: "none is worse than rope by 0.224 nats per token of val/loss (0.201 to 0.247; 5 pairs of runs).".

    more_seeds: for the verdict "cannot tell", the additional seeds that would decide.
    """
    estimate, paired = corrected.estimate, corrected.contrast.paired
    unit = quantity_of(metric)
    if corrected.verdict in ("better", "worse"):
        by = estimate if estimate.value >= 0 else _negated(estimate)
        size = format_number(by.value, half_width(by))
        return f"{subject} is {corrected.verdict} than {reference} by {size} {unit} ({_interval_and_runs(by, paired)})."
    size = format_number(estimate.value, half_width(estimate))
    difference = f"the difference is {size} {unit} ({_interval_and_runs(estimate, paired)})"
    if corrected.verdict == "same":
        return f"{subject} is the same as {reference} to within {margin:g}: {difference}."
    return f"Cannot tell {subject} from {reference}: {difference}; {_advice(corrected, more_seeds)}."


def no_data_sentence(variant: str, trials: Sequence[TrialOutcome], failed: Sequence[TrialOutcome]) -> str:
    """Return a sentence that says why a variant has no data: its trials failed or are not done."""
    if len(failed) < len(trials) or not trials:
        n_failed = f", {len(failed)} failed" if failed else ""
        return f"No data for {variant} yet: {format_count(len(trials) - len(failed), 'trial')} not done{n_failed}."
    return f"No data for {variant}: {describe_failures(failed, len(trials))}."


def format_number(value: float, uncertainty: float) -> str:
    """Format a value to the second significant digit of its uncertainty, with a typographic minus sign.

    With an uncertainty of 0, format four significant digits.
    """
    digits = 1 - math.floor(math.log10(uncertainty)) if uncertainty else 0
    text = f"{value:.4g}" if not uncertainty else f"{value:.2g}" if digits > 6 else f"{value:z.{max(digits, 0)}f}"
    return text.replace("-", "−")


def half_width(estimate: Estimate) -> float:
    """Return half the width of the confidence interval, or 0 if there is none."""
    return 0.0 if estimate.low is None or estimate.high is None else (estimate.high - estimate.low) / 2


def _negated(estimate: Estimate) -> Estimate:
    """Return the same difference with the two sides exchanged."""
    low, high = estimate.low, estimate.high
    return replace(
        estimate,
        value=-estimate.value,
        low=None if high is None else -high,
        high=None if low is None else -low,
    )


def _interval_and_runs(estimate: Estimate, paired: bool) -> str:
    runs = f"{format_count(estimate.n, 'pair')} of runs" if paired else f"{format_count(estimate.n, 'run')} of each"
    if estimate.low is None or estimate.high is None:
        return runs
    uncertainty = half_width(estimate)
    return f"{format_number(estimate.low, uncertainty)} to {format_number(estimate.high, uncertainty)}; {runs}"


def _advice(corrected: CorrectedContrast, more_seeds: MoreSeeds | None) -> str:
    """Return what would decide between two variants that cannot be told apart."""
    if corrected.contrast.error is None:
        return "a single seed says nothing about the spread over seeds"
    if more_seeds is None or more_seeds.n > _MAX_ADVISED_SEEDS:
        return "no practical number of seeds would decide"
    decision = "the same" if more_seeds.verdict == "same" else more_seeds.verdict
    count = format_count(more_seeds.n, "more seed")
    return f"{count} would decide that it is {decision}, if the true difference is about this large"

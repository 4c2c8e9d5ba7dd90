"""Verdicts in words: what was found, how sure it is, and what would make it so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from gptzoo.ablation.records.analysis import Estimate
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.statistics.multiple_comparisons import Judged

_TRAINABLE = 1000  # seeds; that it would take 22,044 is no advice


def sentence(subject: str, reference: str, judged: Judged, *, margin: float, more_seeds: int | None) -> str:
    """The verdict on a difference, whole: "none is worse than rope by 0.224 (0.201 to 0.247; 5 pairs of runs)."."""
    estimate, paired = judged.estimate, judged.contrast.paired
    if judged.verdict in ("better", "worse"):
        by = estimate if estimate.value >= 0 else _turned(estimate)
        return (
            f"{subject} is {judged.verdict} than {reference} by {number(by.value, half(by))} ({_spread(by, paired)})."
        )
    difference = f"{number(estimate.value, half(estimate))} ({_spread(estimate, paired)})"
    if judged.verdict == "same":
        return f"{subject} is the same as {reference} to within {margin:g}: the difference is {difference}."
    return f"Cannot tell {subject} from {reference}: the difference is {difference}; {_wanted(judged, more_seeds)}."


def no_data(variant: str, trials: Sequence[TrialOutcome], failed: Sequence[TrialOutcome]) -> str:
    """Why nothing can be said of a variant: what came of its trials."""
    if len(failed) < len(trials) or not trials:
        return f"No data of {variant} yet: {count(len(trials) - len(failed), 'trial')} to come{_failed_too(failed)}."
    return f"No data of {variant}: {why_failed(failed, len(trials))}."


def why_failed(failed: Sequence[TrialOutcome], n_trials: int) -> str:
    """How many trials of how many failed, and what each reason was."""
    reasons = sorted({trial.reason or "it ended without the metric" for trial in failed})
    seeds = ", ".join(str(trial.seed) for trial in failed)
    return f"{len(failed)} of {count(n_trials, 'trial')} failed (seed {seeds}): {'; '.join(reasons)}"


def count(n: int, noun: str) -> str:
    """1 seed, 2 seeds, 12,000 seeds."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def number(value: float, scale: float) -> str:
    """A value to the second digit of its scale (0: to the fourth of its own), with a true minus."""
    digits = 1 - math.floor(math.log10(scale)) if scale else 0
    text = f"{value:.4g}" if not scale else f"{value:.2g}" if digits > 6 else f"{value:z.{max(digits, 0)}f}"
    return text.replace("-", "−")


def half(estimate: Estimate) -> float:
    """Half the width of the interval; 0 where it is not known."""
    return 0.0 if estimate.low is None or estimate.high is None else (estimate.high - estimate.low) / 2


def _turned(estimate: Estimate) -> Estimate:
    """The same difference seen from the other side."""
    low, high = estimate.low, estimate.high
    return replace(
        estimate,
        value=-estimate.value,
        low=None if high is None else -high,
        high=None if low is None else -low,
    )


def _spread(estimate: Estimate, paired: bool) -> str:
    runs = f"{count(estimate.n, 'pair')} of runs" if paired else f"{count(estimate.n, 'run')} of each"
    if estimate.low is None or estimate.high is None:
        return runs
    width = half(estimate)
    return f"{number(estimate.low, width)} to {number(estimate.high, width)}; {runs}"


def _wanted(judged: Judged, more_seeds: int | None) -> str:
    """What it takes where it cannot be told."""
    if judged.contrast.error is None:
        return "a single seed tells nothing of the spread over seeds"
    if more_seeds is None or more_seeds > _TRAINABLE:
        return "no number of seeds that one could train would tell"
    return f"{count(more_seeds, 'more seed')} would tell, if the true difference is about that"


def _failed_too(failed: Sequence[TrialOutcome]) -> str:
    return f", {len(failed)} failed" if failed else ""

"""Words that all texts of an ablation share: counts with their nouns, lists of names, units, and failed trials."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from gptzoo.ablation.records.trial import TrialOutcome

_MAX_LISTED_NAMES = 6
_UNITS = {"loss": "nats per token", "ema_loss": "nats per token", "bits_per_byte": "bits per byte"}


def format_count(n: int, noun: str) -> str:
    """Format a count with its noun: "1 seed", "2 seeds", "12,000 seeds"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def listed(names: Sequence[str], n_variants: int | None = None) -> str:
    """Join names by commas, and count those beyond the first six. If they are all `n_variants`, say "all variants"."""
    if n_variants is not None and len(names) == n_variants > 1:
        return "all variants"
    n_more = len(names) - _MAX_LISTED_NAMES
    return ", ".join(names[:_MAX_LISTED_NAMES]) + (f" and {n_more} more" if n_more > 0 else "")


def unit_of(metric: str) -> str:
    """Return the unit of a metric, or "" if it has none or is unknown."""
    return _UNITS.get(metric.rpartition("/")[2], "")


def quantity_of(metric: str) -> str:
    """Return what a difference in a metric is a number of: "nats per token of val/loss", "of val/perplexity"."""
    return f"{unit_of(metric)} of {metric}".lstrip()


def with_unit(metric: str) -> str:
    """Return the name of a metric with its unit: "val/loss (nats per token)"."""
    return f"{metric} ({unit_of(metric)})" if unit_of(metric) else metric


def better_direction(higher_is_better: bool) -> str:
    """Return which values of a metric are better: "higher is better" or "lower is better"."""
    return f"{'higher' if higher_is_better else 'lower'} is better"


def better_sign(higher_is_better: bool) -> str:
    """Return the sign of differences that are better: "positive" or "negative"."""
    return "positive" if higher_is_better else "negative"


def signal_name(number: int) -> str:
    """Return the name of a signal, such as "SIGKILL", or "signal 35" for one that Python does not name."""
    return signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"


def describe_failures(failed: Sequence[TrialOutcome], n_trials: int) -> str:
    """Return how many of the trials failed, for which seeds and reasons."""
    reasons = sorted({trial.reason or "it ended without the metric" for trial in failed})
    seeds = ", ".join(str(trial.seed) for trial in failed)
    return f"{len(failed)} of {format_count(n_trials, 'trial')} failed (seed {seeds}): {'; '.join(reasons)}"

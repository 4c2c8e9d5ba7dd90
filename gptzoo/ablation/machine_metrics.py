"""Outcomes without the metrics that differ each time the same trials are run."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.training.run.verify_resume import MACHINE_METRICS


def without_machine_metrics(outcome: Outcome) -> Outcome:
    """Remove the metrics that depend on the machine, so that equal trials give equal text. The report keeps them.

    The metric that is compared stays.
    """
    removed = MACHINE_METRICS - {outcome.metric}
    lengths = [replace(length, trials=_stripped(length.trials, removed)) for length in outcome.baseline_lengths]
    return replace(outcome, trials=_stripped(outcome.trials, removed), baseline_lengths=lengths)


def _stripped(trials: Sequence[TrialOutcome], removed: Set[str]) -> list[TrialOutcome]:
    return [
        replace(trial, rows=[{name: v for name, v in row.items() if name not in removed} for row in trial.rows])
        for trial in trials
    ]

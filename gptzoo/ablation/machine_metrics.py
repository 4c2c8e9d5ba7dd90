"""Outcomes without the metrics that differ each time the same trials are run."""

from __future__ import annotations

from dataclasses import replace

from gptzoo.ablation.records.outcome import Outcome
from gptzoo.training.run.verify_resume import MACHINE_METRICS


def without_machine_metrics(outcome: Outcome) -> Outcome:
    """Remove the metrics that depend on the machine, so that equal trials give equal text. The report keeps them."""
    trials = [
        replace(trial, rows=[{name: v for name, v in row.items() if name not in MACHINE_METRICS} for row in trial.rows])
        for trial in outcome.trials
    ]
    return replace(outcome, trials=trials)

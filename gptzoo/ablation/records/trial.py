"""The state and the outcome of one trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from gptzoo.ablation.records.scores import Score

TrialState = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class TrialOutcome:
    """The state, metrics and sample of a trial, which is one variant trained with one seed."""

    variant: str
    seed: int
    state: TrialState
    reason: str = ""  # why the trial failed
    rows: Sequence[Mapping[str, Any]] = ()  # the rows of metrics.jsonl, in order
    sample: str = ""  # text generated at the end of training
    warnings: Sequence[str] = ()  # of the run, such as weights that training did not change
    data: Mapping[str, Any] = field(default_factory=dict)  # record of its text; {} if unknown
    scores: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)  # by task of the spec, and metric
    unscored: str = ""  # why it could not be scored on a task; "" if it was, or will be
    verified: bool = True  # False if the trial is done and no checksum protects its metrics

    def last(self, metric: str) -> float | None:
        """Return the last value of a metric, or None if the trial is not done or that value is missing or NaN."""
        if self.state != "done":
            return None
        # NaN is written as null. An earlier value would belong to another step, so a null is returned as None.
        return next((row[metric] for row in reversed(self.rows) if metric in row), None)

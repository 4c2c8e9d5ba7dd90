"""Synthetic tasks in an ablation: the metrics of a variant's held-out samples."""

from __future__ import annotations

from dataclasses import dataclass

SOLVED = 0.9
"""A seed has solved a task if its metric is at least this."""


@dataclass(frozen=True)
class TaskMetric:
    """A share of right answers that is measured on held-out samples of one length."""

    metric: str  # such as "val/accuracy", or "val/long/accuracy" for the level `long`
    length: int  # tokens of a sample
    chance: float  # expected value of the best predictor that sees no context
    state_bytes: int | None  # cache or recurrent state of one such sample; None beyond the model's positions

    @property
    def label(self) -> str:
        """The metric without "val/" and, on a level, without "accuracy": "accuracy", "long", "long/accuracy_at_end"."""
        return self.metric.removeprefix("val/").removesuffix("/accuracy")

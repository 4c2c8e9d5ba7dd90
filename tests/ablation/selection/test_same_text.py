"""Trials whose metric cannot be subtracted from the baseline's, because it is of another text or other tokens."""

from __future__ import annotations

from typing import Any

from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.selection.trial_results import with_same_text


def test_a_trial_counts_only_with_the_text_of_the_baseline() -> None:
    record = {"text": "a", "ids": "b", "bytes": 3}
    rows = [{"step": 1, "val/loss": 2.0, "val/bits_per_byte": 3.0}]

    def trial(variant: str, seed: int, **changes: Any) -> TrialOutcome:
        data = {"data": "c", "held_out": record | changes} if changes.get("text", "") is not None else {}
        return TrialOutcome(variant, seed, "done", rows=rows, data=data)

    trials = [
        trial("base", 1),
        trial("same", 1),
        trial("unknown", 1, text=None),  # of an older version
        trial("text", 1, text="other"),
        trial("part", 1, bytes=2),
        trial("ids", 1, ids="other"),
        trial("base", 2, text="other"),
    ]
    for metric, wrong in (
        ("val/loss", {("text", 1), ("part", 1), ("ids", 1), ("base", 2)}),
        ("val/bits_per_byte", {("text", 1), ("part", 1), ("base", 2)}),
        ("tokens_per_second", set()),
    ):
        checked = with_same_text(trials, "base", metric)
        assert {(trial.variant, trial.seed) for trial in checked if trial.state == "failed"} == wrong
        assert all(trial.reason and trial.last(metric) is None for trial in checked if trial.state == "failed")

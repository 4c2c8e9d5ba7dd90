"""What came of one trial, by the files in its folder."""

from __future__ import annotations

from gptzoo.ablation.execution.trial import TrialFolder
from gptzoo.ablation.records.selection import RungTrial
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.training.run.metrics_file import whole_rows


def seen_at(folder: TrialFolder, metric: str) -> RungTrial:
    """How a trial is doing on its way to the step where it pauses, or what the metric is there."""
    state = folder.state
    if state != "done":
        return RungTrial(state, reason=(folder.given_up or "") if state == "failed" else "")
    value = next((row.get(metric) for row in whole_rows(folder.metrics) if row["step"] == folder.until), None)
    return RungTrial("done", value)


def trial_outcome(folder: TrialFolder, variant: str, seed: int) -> TrialOutcome:
    """How a trial is doing, or what it found."""
    state = folder.state
    sample = folder.path / "sample.txt"
    return TrialOutcome(
        variant=variant,
        seed=seed,
        state=state,
        reason=(folder.given_up or "") if state == "failed" else "",
        rows=whole_rows(folder.metrics),
        sample=sample.read_text(encoding="utf-8") if sample.is_file() else "",
    )

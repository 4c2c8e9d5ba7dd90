"""The result of a trial, read from the files in its folder."""

from __future__ import annotations

from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.records.selection import RungTrial
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.training.run.metrics_file import read_complete_rows
from gptzoo.training.run.run_folder import RunFolder

_TOPICS = ("weights", "early_stopping")  # of the warnings that a plan does not know in advance


def read_rung_trial(folder: TrialFolder, metric: str) -> RungTrial:
    """Read the progress of a trial towards the step at which it pauses, and the metric at that step."""
    state = folder.state
    if state != "done":
        return RungTrial(state, reason=(folder.failure or "") if state == "failed" else "")
    value = next(
        (row.get(metric) for row in read_complete_rows(folder.metrics) if row["step"] == folder.pause_at), None
    )
    return RungTrial("done", value)


def read_trial_outcome(folder: TrialFolder, variant: str, seed: int) -> TrialOutcome:
    """Read the state, metrics and sample of a trial."""
    state = folder.state
    sample = folder.path / "sample.txt"
    return TrialOutcome(
        variant=variant,
        seed=seed,
        state=state,
        reason=(folder.failure or "") if state == "failed" else "",
        rows=read_complete_rows(folder.metrics),
        sample=sample.read_text(encoding="utf-8") if sample.is_file() else "",
        warnings=[message for topic in _TOPICS for message in RunFolder(folder.path).read_warnings(topic)],
    )

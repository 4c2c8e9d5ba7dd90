"""The result of a trial, read from the files in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.records.same_text import why_not_comparable
from gptzoo.ablation.records.scores import read_scores
from gptzoo.ablation.records.selection import RungTrial
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.training.run.metrics_file import read_complete_rows
from gptzoo.training.run.run_folder import RunFolder

_TOPICS = ("weights", "early_stopping")  # of the warnings that a plan does not know in advance


def read_rung_trial(folder: TrialFolder, metric: str, reference: TrialFolder) -> RungTrial:
    """Read the progress of a trial towards the step at which it pauses, and the metric at that step.

    The trial has failed if its held-out text is not that of `reference`, a trial of the baseline.
    """
    state = folder.state
    if state != "done":
        return RungTrial(state, reason=(folder.failure or "") if state == "failed" else "")
    reason = why_not_comparable(metric, folder.data_record.get("held_out"), reference.data_record.get("held_out"))
    if reason is not None:
        return RungTrial("failed", reason=reason)
    value = next(
        (row.get(metric) for row in read_complete_rows(folder.metrics) if row.get("step") == folder.pause_at), None
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
        rows=() if state == "failed" and folder.damage else read_complete_rows(folder.metrics),
        sample=sample.read_text(encoding="utf-8", errors="replace") if sample.is_file() else "",
        verified=state != "done" or folder.verified,
        warnings=[message for topic in _TOPICS for message in RunFolder(folder.path).read_warnings(topic)],
        data=folder.data_record,
    )


def with_same_text(
    trials: Sequence[TrialOutcome], baseline: str, metric: str, references: Mapping[str, str] | None = None
) -> list[TrialOutcome]:
    """Return the trials; those that are done but whose metric is of another held-out text count as failed.

    The reference is the first trial of the baseline that has a record of its text.

    references: by variant, the variant that it is compared with instead of the baseline, or "".
    """
    texts: dict[str, Mapping[str, Any]] = {}
    for trial in sorted(trials, key=lambda trial: trial.seed):
        if trial.data.get("held_out"):
            texts.setdefault(trial.variant, trial.data["held_out"])
    checked = []
    for trial in trials:
        reference = texts.get((references or {}).get(trial.variant) or baseline)
        reason = why_not_comparable(metric, trial.data.get("held_out"), reference) if trial.state == "done" else None
        checked.append(trial if reason is None else replace(trial, state="failed", reason=reason, rows=()))
    return checked


def with_scores(outcome: TrialOutcome, folder: TrialFolder, harness: Mapping[str, Any] | None) -> TrialOutcome:
    """Return a trial that is done with its scores on the tasks of the field `harness` of the ablation.

    A task that is a tag has no results of its own. Its scores are those of its members.
    """
    if not harness or outcome.state != "done":
        return outcome
    scores, tasks = read_scores(folder.path, harness), harness["tasks"]
    is_tag = any(task in scores.tasks and task not in scores.results for task in tasks)
    shown = scores.results if is_tag else {task: scores.results[task] for task in tasks if task in scores.results}
    return replace(outcome, scores=shown, unscored=scores.failure_of(tasks))

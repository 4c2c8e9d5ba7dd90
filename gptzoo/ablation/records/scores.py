"""The file scores.json of a trial: its scores on tasks of lm-evaluation-harness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptzoo.checkpoint.records import check_sum, read_record, with_checksum
from gptzoo.errors import FolderError
from gptzoo.utils.atomic import write_json

FILE = "scores.json"
_SETTINGS = ("limit", "num_fewshot", "include_path")  # scores with other values of these are not comparable


@dataclass(frozen=True)
class Score:
    """One metric of a task."""

    value: float
    higher_is_better: bool | None  # None if the task does not say


@dataclass(frozen=True)
class Scores:
    """The scores of a trial under the current settings."""

    tasks: Sequence[str] = ()  # tasks and groups that have been scored, as the spec names them
    results: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)  # by task and metric
    failure: str = ""  # why the tasks of `failed` could not be scored
    failed: Sequence[str] = ()  # tasks of the attempt that failed
    lm_eval: str = ""  # version of the package

    def missing(self, tasks: Sequence[str]) -> list[str]:
        """Return the tasks that have no scores."""
        return [task for task in tasks if task not in self.tasks]

    def failure_of(self, tasks: Sequence[str]) -> str:
        """Return why one of the tasks could not be scored, or "" if none has failed."""
        return self.failure if set(self.missing(tasks)) & {*self.failed} else ""


def read_scores(trial: Path, harness: Mapping[str, Any]) -> Scores:
    """Read the scores of a trial. Those of other settings, and those in a damaged file, are measured again.

    harness: the field `harness` of the ablation.
    """
    try:
        record = read_record(trial / FILE)
        check_sum(record, trial / FILE)
        if record["settings"] != _settings(harness):
            return Scores()
        results = {
            task: {name: Score(float(metric["value"]), metric["higher_is_better"]) for name, metric in metrics.items()}
            for task, metrics in record["results"].items()
        }
        return Scores(record["tasks"], results, record["failure"], record["failed"], record["lm_eval"])
    except (FolderError, KeyError, TypeError, AttributeError, ValueError):
        return Scores()


def write_scores(
    trial: Path,
    harness: Mapping[str, Any],
    tasks: Sequence[str],
    results: Mapping[str, Mapping[str, Mapping[str, Any]]],
    lm_eval: str,
) -> None:
    """Add scores on `tasks` to those of a trial. Values that are not finite are left out."""
    before = read_scores(trial, harness)
    finite = {
        task: {name: dict(metric) for name, metric in metrics.items() if math.isfinite(metric["value"])}
        for task, metrics in results.items()
    }
    done = [*before.tasks, *before.missing(tasks)]
    _write(trial, harness, Scores(done, before.results, lm_eval=lm_eval), finite)


def write_failure(trial: Path, harness: Mapping[str, Any], tasks: Sequence[str], reason: str) -> None:
    """Record why a trial could not be scored on `tasks`. Its other scores stay."""
    before = read_scores(trial, harness)
    _write(trial, harness, Scores(before.tasks, before.results, reason, tasks, before.lm_eval), {})


def _write(trial: Path, harness: Mapping[str, Any], scores: Scores, new: Mapping[str, Any]) -> None:
    kept = {
        task: {name: {"value": s.value, "higher_is_better": s.higher_is_better} for name, s in metrics.items()}
        for task, metrics in scores.results.items()
    }
    record = {
        "settings": _settings(harness),
        "tasks": list(scores.tasks),
        "results": {**kept, **new},
        "failure": scores.failure,
        "failed": list(scores.failed),
        "lm_eval": scores.lm_eval,
    }
    write_json(trial / FILE, with_checksum(record))


def _settings(harness: Mapping[str, Any]) -> dict[str, Any]:
    return {name: harness.get(name) for name in _SETTINGS}

"""result.json, the record of how far a run has come: written once at each end, whole, with a checksum.

    {"ends": [{"step": 12, "status": "done", "metrics_bytes": 2345, "metrics_sha256": "…", "metrics": {…}}],
     "sha256": "…"}

A run has an end where it pauses or is done. An end has the last row of metrics, and the size and checksum of
metrics.jsonl up to there, so that damage of any of its rows is found. Runs of older versions have no result.json: of
their metrics only the form can be checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.checkpoint.checkpoints import list_checkpoints
from gptzoo.checkpoint.records import check_sum, read_record, with_checksum
from gptzoo.errors import FolderError
from gptzoo.training.run.disk_errors import report_disk_errors
from gptzoo.training.run.metrics_file import parse_rows
from gptzoo.utils.atomic import write_json

RESULT = "result.json"
_METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Check:
    """The result of checking the records of a run."""

    damage: str | None  # the file and what is wrong with it, or None
    verified: bool  # False if there is no checksum, as in runs of older versions


def record_end(folder: Path, step: int, status: str) -> None:
    """Write the end of a run at `step` to its result.json. Raises FolderError for a full disk or a damaged row."""
    contents = (folder / _METRICS).read_bytes()
    rows = parse_rows(folder / _METRICS)
    ends = [end for end in _read_ends(folder) if end["step"] < step and _matches(contents, end)]
    end = {
        "step": step,
        "status": status,
        "metrics_bytes": len(contents),
        "metrics_sha256": hashlib.sha256(contents).hexdigest(),
        "metrics": rows[-1],
    }
    file = folder / RESULT
    with report_disk_errors(file):
        write_json(file, with_checksum({"ends": [*ends, end]}))


def check_end(folder: Path, step: int | None = None) -> Check:
    """Check the records of a run that is done, or has reached `step`."""
    metrics = folder / _METRICS
    try:
        if not (folder / RESULT).exists():
            return _check_form(folder, step)
        ends = _read_ends(folder, strict=True)
        end = next((end for end in ends if end["step"] == step), None) if step is not None else ends[-1]
        if end is None:  # the run has gone past this step without a pause
            end = ends[-1] if ends[-1]["step"] > (step or 0) else None
        if end is None:
            return _check_form(folder, step)
        if not metrics.exists():
            return Check(f"{_METRICS} is missing", verified=True)
        contents = metrics.read_bytes()
    except (FolderError, OSError) as error:
        return Check(str(error).replace(f"{folder}/", ""), verified=True)
    if len(contents) < end["metrics_bytes"]:
        cut = f"{_METRICS} has {len(contents)} bytes, and had {end['metrics_bytes']} when the run ended: it was cut"
        return Check(cut, verified=True)
    if not _matches(contents, end):
        return Check(f"{_METRICS} does not match its checksum in {RESULT}: it was damaged or changed", verified=True)
    return Check(None, verified=True)


def check_progress(folder: Path) -> Check:
    """Check the metrics of a run that has not ended: they reach its newest checkpoint."""
    if not (folder / _METRICS).exists() and not list_checkpoints(folder / "checkpoints"):
        return Check(None, verified=False)
    try:
        parse_rows(folder / _METRICS, up_to=max(list_checkpoints(folder / "checkpoints"), default=0))
    except (FolderError, OSError) as error:
        return Check(str(error).replace(f"{folder}/", ""), verified=False)
    return Check(None, verified=False)


def _check_form(folder: Path, step: int | None) -> Check:
    """Check metrics without a checksum: complete rows of numbers, up to the newest checkpoint and to `step`."""
    newest = max(list_checkpoints(folder / "checkpoints"), default=0)
    try:
        rows = parse_rows(folder / _METRICS, up_to=newest if step is None else step, complete=True)
        if not rows:
            raise FolderError(f"{folder / _METRICS}: is empty")
        for row in rows:
            if not all(_is_metric(value) for value in row.values()):
                raise FolderError(f"{folder / _METRICS}: the row of step {row['step']} has values that are no numbers")
    except (FolderError, OSError) as error:
        return Check(str(error).replace(f"{folder}/", ""), verified=False)
    return Check(None, verified=False)


def _is_metric(value: object) -> bool:
    return all(map(_is_metric, value)) if isinstance(value, list) else isinstance(value, int | float | None)


def _read_ends(folder: Path, *, strict: bool = False) -> list[Mapping[str, Any]]:
    """Return the ends of a run. A damaged record has none, unless it is `strict`: then FolderError is raised."""
    file = folder / RESULT
    if not file.exists():
        return []
    try:
        record = read_record(file)
        check_sum(record, file)
        ends: list[Mapping[str, Any]] = record["ends"]
        if not ends or not all(isinstance(end["step"], int) and isinstance(end["metrics_bytes"], int) for end in ends):
            raise KeyError("ends")
    except (KeyError, TypeError):
        if strict:
            raise FolderError(f"{file}: has another form than expected. It was damaged or changed") from None
        return []
    except FolderError:
        if strict:
            raise
        return []
    return ends


def _matches(contents: bytes, end: Mapping[str, Any]) -> bool:
    return hashlib.sha256(contents[: end["metrics_bytes"]]).hexdigest() == end["metrics_sha256"]


def require_metrics(folder: Path, step: int) -> None:
    """Raise FolderError unless the metrics reach `step`, where a run continues, and match their checksums."""
    parse_rows(folder / _METRICS, up_to=step)
    contents = (folder / _METRICS).read_bytes()
    for end in _read_ends(folder, strict=True):
        if end["step"] <= step and not _matches(contents, end):
            raise FolderError(
                f"{folder / _METRICS}: does not match its checksum in {RESULT}: it was damaged or changed. Restore it, "
                "or train again in another folder"
            )

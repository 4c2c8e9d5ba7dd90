"""metrics.jsonl, the metrics of a run: one JSON object per step."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gptzoo.errors import FolderError
from gptzoo.training.run.disk_errors import report_disk_errors
from gptzoo.utils.atomic import write_text

_ADVICE = "It was cut or damaged. Restore it, or train again in another folder"
_TAIL_BYTES = 4096  # usually holds the last row


class MetricsFile:
    """A file to which rows are appended. When `append` returns, other processes can read the row.

    Without a file descriptor it stores nothing: only the main rank writes metrics.
    """

    def __init__(self, path: Path, descriptor: int | None):
        self.path = path
        self.descriptor = descriptor

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row. Raises FolderError if the disk is full."""
        if self.descriptor is None:
            return
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        with report_disk_errors(self.path):
            while line:  # a disk that is almost full writes a part of the line first, then fails
                line = line[os.write(self.descriptor, line) :]

    def sync(self) -> None:
        """Flush all rows to disk, so that they survive a crash of the machine. Raises FolderError."""
        if self.descriptor is None:
            return
        with report_disk_errors(self.path):
            os.fsync(self.descriptor)


@contextlib.contextmanager
def open_metrics(path: Path, *, write: bool = True) -> Iterator[MetricsFile]:
    """Open the file for appending; without `write` it is not touched. Raises FolderError."""
    if not write:
        yield MetricsFile(path, None)
        return
    with report_disk_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        yield MetricsFile(path, descriptor)
    finally:
        os.close(descriptor)


def truncate_after(path: Path, step: int) -> None:
    """Remove the rows after `step`, and a row that a killed process left incomplete.

    Raises FolderError, and changes nothing, if a row up to `step` is missing or damaged.
    """
    if step < 0:
        with report_disk_errors(path):
            if path.exists():
                write_text(path, "")
        return
    rows = parse_rows(path, up_to=step)
    n_rows = sum(row["step"] <= step for row in rows)
    with report_disk_errors(path):
        lines = path.read_bytes().split(b"\n")[:n_rows]
        write_text(path, b"".join(line + b"\n" for line in lines).decode())


def parse_rows(path: Path, *, up_to: int | None = None, complete: bool = False) -> list[dict[str, Any]]:
    """Return the rows of metrics. Raises FolderError, which names the file and the line, if one is damaged.

    up_to: the last step that must be there. Damage after it is of no interest: the rows end there.
    complete: also refuse a last line without an end, which is otherwise what a killed process leaves.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise FolderError(f"{path}: is missing. {_ADVICE}") from None
    if complete and lines[-1]:
        raise FolderError(f"{path}:{len(lines)}: the last row is not complete. {_ADVICE}")
    rows: list[dict[str, Any]] = []
    last = -1
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line.decode("utf-8"))
            if type(row) is not dict or type(row.get("step")) is not int:
                raise ValueError("expected an object with a step")
            if row["step"] <= last and (complete or up_to is not None):
                raise ValueError(f"expected a step above {last}")
        except (ValueError, RecursionError) as error:
            if up_to is not None and last >= up_to and not complete:
                return rows
            raise FolderError(f"{path}:{number}: is damaged: {error}. {_ADVICE}") from None
        last = row["step"]
        rows.append(row)
    if up_to is not None and last < up_to:
        reached = f"ends at step {last}" if rows else "has no rows"
        raise FolderError(f"{path}: {reached}, but a checkpoint is of step {up_to}: rows are missing. {_ADVICE}")
    return rows


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return all rows, or none if the file does not exist. Raises FolderError for a damaged row."""
    return parse_rows(path) if path.exists() else []


def read_complete_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a run that may be in progress, up to the first that is incomplete or damaged."""
    try:
        return parse_rows(path, up_to=-1)
    except OSError:
        return []
    except FolderError:
        return []


def read_last_row(path: Path) -> dict[str, Any]:
    """Return the last complete row of a run that may be in progress, or {}. Reads only the end of the file."""
    try:
        with open(path, "rb") as file:
            size, n_bytes = file.seek(0, 2), _TAIL_BYTES
            while True:
                first = max(0, size - n_bytes)
                file.seek(first)
                *lines, _ = file.read(size - first).split(b"\n")
                if len(lines) > 1 or first == 0:
                    break
                n_bytes *= 2  # rows can be long, such as with the load of each expert in each layer
    except FileNotFoundError:
        return {}
    try:
        row = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return row if isinstance(row, dict) and type(row.get("step")) is int else {}


def replace_non_finite(row: Mapping[str, object]) -> dict[str, Any]:
    """Return the row with None for numbers that are not finite, also in lists: JSON has no such numbers."""
    return {name: _none_if_not_finite(value) for name, value in row.items()}


def _none_if_not_finite(value: object) -> object:
    if isinstance(value, list):
        return [_none_if_not_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

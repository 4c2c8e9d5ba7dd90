"""metrics.jsonl, the metrics of a run: one JSON object per step."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gptzoo.training.run.disk_errors import report_disk_errors
from gptzoo.utils.atomic import write_text

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
    """Remove the rows after `step`, and a row that a killed process left incomplete."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if row["step"] > step:
            break
        kept.append(line + "\n")
    with report_disk_errors(path):
        write_text(path, "".join(kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return all rows, or none if the file does not exist."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_complete_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a run that may be in progress. An incomplete last row is left out."""
    if not path.exists():
        return []
    *complete, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [json.loads(line) for line in complete]


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
    row: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return row


def replace_non_finite(row: Mapping[str, object]) -> dict[str, Any]:
    """Return the row with None for numbers that are not finite, also in lists: JSON has no such numbers."""
    return {name: _none_if_not_finite(value) for name, value in row.items()}


def _none_if_not_finite(value: object) -> object:
    if isinstance(value, list):
        return [_none_if_not_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

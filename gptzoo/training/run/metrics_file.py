"""metrics.jsonl: one line a step, the run's own record."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gptzoo.training.run.disk import writing
from gptzoo.utils.atomic import write_text

_TAIL = 4096  # bytes at the end of a file, which hold its last row mostly


class MetricsFile:
    """Rows that are appended one by one, each on disk, in the eyes of other processes, when `add` returns.

    Without a descriptor it keeps nothing: of several processes that train together, one keeps the record.
    """

    def __init__(self, path: Path, descriptor: int | None):
        self.path = path
        self.descriptor = descriptor

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row. Raises FolderError where there is no room for it."""
        if self.descriptor is None:
            return
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        with writing(self.path):
            while line:  # a disk that is nearly full takes a part, and refuses the rest
                line = line[os.write(self.descriptor, line) :]

    def sync(self) -> None:
        """Make what was appended survive a crash of the machine. Raises FolderError."""
        if self.descriptor is None:
            return
        with writing(self.path):
            os.fsync(self.descriptor)


@contextlib.contextmanager
def appending(path: Path, *, keep: bool = True) -> Iterator[MetricsFile]:
    """The file, open for rows at its end; unless it is to `keep` them it is not touched. Raises FolderError."""
    if not keep:
        yield MetricsFile(path, None)
        return
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        yield MetricsFile(path, descriptor)
    finally:
        os.close(descriptor)


def cut(path: Path, step: int) -> None:
    """Drop the rows after `step`, and a row that a kill left half written."""
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
    with writing(path):
        write_text(path, "".join(kept))


def read(path: Path) -> list[dict[str, Any]]:
    """All rows; none without a file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def whole_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a run that may be going on: its last row may be half written, and is then left out."""
    if not path.exists():
        return []
    *whole, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [json.loads(line) for line in whole]


def last_whole_row(path: Path) -> dict[str, Any]:
    """The last whole row of a run that may be going on, without reading all of it; {} before there is one."""
    try:
        with open(path, "rb") as file:
            size, n_bytes = file.seek(0, 2), _TAIL
            while True:
                first = max(0, size - n_bytes)
                file.seek(first)
                *lines, _ = file.read(size - first).split(b"\n")
                if len(lines) > 1 or first == 0:
                    break
                n_bytes *= 2  # a row with the load of each expert of each layer is long
    except FileNotFoundError:
        return {}
    row: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return row


def without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with null for what is not finite, in lists too: JSON has no such numbers."""
    return {name: _without_nan(value) for name, value in row.items()}


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Error messages for a disk that is full, read-only or missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gptzoo.errors import FolderError


@contextlib.contextmanager
def report_disk_errors(path: Path) -> Iterator[None]:
    """Raise FolderError with advice if the operating system refuses to write `path` in the block."""
    try:
        yield
    except OSError as error:
        raise FolderError(
            f"{path}: cannot be written: {error.strerror or error}. Everything saved before is intact. "
            "Free some space or make the folder writable, then continue with --resume"
        ) from error

"""A disk that is full, read-only or gone, in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gptzoo.errors import FolderError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, `path` is written. Raises FolderError, which says what of a run is left, where the system refuses."""
    try:
        yield
    except OSError as error:
        raise FolderError(
            f"{path}: cannot be written: {error.strerror or error}. What was saved before is whole; "
            "make room, or the folder writable, and go on with --resume"
        ) from error

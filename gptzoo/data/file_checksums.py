"""SHA-256 checksums of large files, which are computed once and then trusted while a file is unchanged.

The record of a checksum in the cache has the file's size, time, inode and a digest of sampled blocks. A file that
differs in any of them is read in full. So a file of 10 GB, which takes many seconds to read, does not delay every trial
of an ablation. Small files are always read in full.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gptzoo.errors import DataError
from gptzoo.utils.atomic import write_json
from gptzoo.utils.cache_folder import cache_folder

LARGE = 64 * 2**20
"""Size in bytes from which a file is trusted without being read in full."""
_N_BLOCKS, _BLOCK_BYTES = 256, 4096
_SETTLING_SECONDS = 2.0  # a file that was written more recently may be written again without a change of its time
_is_verifying = False


@contextlib.contextmanager
def verify_files() -> Iterator[None]:
    """Read every file in full inside the block, also files that have a record."""
    global _is_verifying
    before, _is_verifying = _is_verifying, True
    try:
        yield
    finally:
        _is_verifying = before


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal number. Raises OSError.

    A large file is read in full only if it may have changed since it was last read in full.
    """
    if file.stat().st_size < LARGE:
        return read_sha256(file)
    record_file = _record_file(file)
    signature = _signature(file)
    if not _is_verifying and (record := _read_record(record_file)) and record.get("signature") == signature:
        return str(record.get("sha256"))
    started = time.time_ns()
    checksum = read_sha256(file)
    is_settled = signature["mtime_ns"] < started - _SETTLING_SECONDS * 1e9
    if is_settled and _signature(file) == signature:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
            record_file.parent.mkdir(parents=True, exist_ok=True)
            write_json(record_file, {"file": str(file.resolve()), "signature": signature, "sha256": checksum})
    return checksum


def read_sha256(file: Path) -> str:
    """Read a file in full, and return its SHA-256 as a hexadecimal number."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _record_file(file: Path) -> Path:
    name = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:32]
    return cache_folder() / "checksums" / f"{name}.json"


def _signature(file: Path) -> dict[str, Any]:
    """Return the size, time and inode of a file with a digest of evenly spaced blocks, to detect changes."""
    with open(file, "rb") as stream:
        status = os.fstat(stream.fileno())
        digest = hashlib.sha256()
        last = max(0, status.st_size - _BLOCK_BYTES)
        for index in range(_N_BLOCKS):
            stream.seek(last * index // (_N_BLOCKS - 1))
            digest.update(stream.read(_BLOCK_BYTES))
    return {
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "inode": status.st_ino,
        "device": status.st_dev,
        "blocks": digest.hexdigest(),
    }


def _read_record(file: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


class BackgroundCheck:
    """A thread that reads large files in full and compares their checksums with those that were trusted."""

    def __init__(self, checksums: Mapping[Path, str]):
        self._checksums = {file: checksum for file, checksum in checksums.items() if file.stat().st_size >= LARGE}
        self._damaged: Path | None = None
        self._thread = threading.Thread(target=self._check, name="checksums", daemon=True)
        if self._checksums:
            self._thread.start()

    def raise_if_damaged(self, *, wait: bool = False) -> None:
        """Raise DataError if a file that has been read so far, with `wait` any file, differs from its checksum."""
        if wait and self._checksums:
            self._thread.join()
        if self._damaged is not None:
            raise DataError(
                f"{self._damaged}: the file is damaged: its SHA-256 is not that of the tokens that were written. Steps "
                "since the run was resumed have read it. Resume again: the tokens are then made anew"
            )

    def _check(self) -> None:
        for file, checksum in self._checksums.items():
            try:
                is_same = read_sha256(file) == checksum
            except OSError:
                is_same = False
            if not is_same:
                _record_file(file).unlink(missing_ok=True)  # so that the next start reads the file in full
                self._damaged = file
                return

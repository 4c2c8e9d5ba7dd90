"""A large file is read in full once, and again when it has changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import gptzoo
from gptzoo.data import file_checksums
from gptzoo.data.file_checksums import BackgroundCheck, file_sha256, verify_files
from gptzoo.errors import DataError

BYTES = 3 * 2**20  # more than the sampled blocks


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The files that are read in full, with a cache of its own, in which every file counts as large."""
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_checksums, "LARGE", 1)
    read, files = file_checksums.read_sha256, []

    def counted(file: Path) -> str:
        files.append(file)
        return read(file)

    monkeypatch.setattr(file_checksums, "read_sha256", counted)
    return files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that was written an hour ago."""
    path = tmp_path / "tokens.bin"
    path.write_bytes(os.urandom(BYTES))
    age(path)
    return path


def age(file: Path, seconds: float = 3600) -> None:
    status = file.stat()
    os.utime(file, (status.st_atime - seconds, status.st_mtime - seconds))


def true_sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_an_unchanged_file_is_read_once(file: Path, reads: list[Path]) -> None:
    assert [file_sha256(file) for _ in range(3)] == [true_sha256(file)] * 3
    assert reads == [file]


def flip(file: Path, offset: int) -> None:
    with open(file, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 1]))


def flip_without_a_new_time(file: Path) -> None:
    status = file.stat()
    flip(file, 0)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_with_the_same_time(file: Path) -> None:
    status = file.stat()
    other = file.with_name("other")
    other.write_bytes(os.urandom(BYTES))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, file)


CHANGES: list[Callable[[Path], None]] = [
    lambda file: flip(file, BYTES // 2 + 5),
    lambda file: file.write_bytes(file.read_bytes() + b"x"),
    flip_without_a_new_time,
    replace_with_the_same_time,
]


@pytest.mark.parametrize("change", CHANGES, ids=["one byte", "longer", "a sampled block", "another file"])
def test_a_changed_file_is_found(change: Callable[[Path], None], file: Path, reads: list[Path]) -> None:
    before = file_sha256(file)
    change(file)
    assert file_sha256(file) == true_sha256(file) != before
    assert len(reads) == 2


def test_verifying_reads_an_unchanged_file_again(file: Path, reads: list[Path]) -> None:
    file_sha256(file)
    with verify_files():
        assert file_sha256(file) == true_sha256(file)
    file_sha256(file)
    assert reads == [file, file]


def test_a_file_that_was_just_written_is_not_trusted(file: Path, reads: list[Path]) -> None:
    os.utime(file)
    file_sha256(file)
    file_sha256(file)
    assert len(reads) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"signature": 1}', "{"])
def test_a_damaged_record_is_ignored(content: str, file: Path, reads: list[Path], tmp_path: Path) -> None:
    file_sha256(file)
    (record,) = (tmp_path / "cache" / "checksums").glob("*.json")
    record.write_text(content)
    assert file_sha256(file) == true_sha256(file)


def test_a_small_file_is_always_read(file: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_checksums, "LARGE", BYTES + 1)
    file_sha256(file)
    file_sha256(file)
    assert len(reads) == 2


def test_the_background_check_finds_what_the_record_cannot_show(file: Path, reads: list[Path]) -> None:
    trusted, status = file_sha256(file), file.stat()
    flip(file, BYTES // 2 + 5)  # between two sampled blocks
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_sha256(file) == trusted  # as from a failing disk, which changes neither size nor time
    check = BackgroundCheck({file: trusted})
    with pytest.raises(DataError, match=r"tokens\.bin: the file is damaged"):
        check.raise_if_damaged(wait=True)
    assert file_sha256(file) == true_sha256(file) != trusted


def test_a_resumed_run_stops_at_damaged_tokens_and_the_next_one_makes_them_anew(
    reads: list[Path], tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("To be, or not to be, that is the question. " * 2000)
    spec = {
        "model": {"context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2},
        "corpus": {"type": "text", "path": str(text)},
        "tokenizer": "byte",
        "batch_size": 2,
        "steps": 4,
    }
    gptzoo.train(spec, tmp_path / "run", until=2, quiet=True)
    (tokens,) = (tmp_path / "cache" / "tokens").glob("*/train.bin")
    age(tokens)
    intact = tokens.read_bytes()
    gptzoo.train(spec, tmp_path / "run", until=3, resume=True, quiet=True)  # reads in full, and makes a record
    (record,) = (
        path
        for path in (tmp_path / "cache" / "checksums").glob("*.json")
        if json.loads(path.read_text())["file"] == str(tokens.resolve())
    )
    status = tokens.stat()
    flip(tokens, len(intact) // 2)
    os.utime(tokens, ns=(status.st_atime_ns, status.st_mtime_ns))
    made = json.loads(record.read_text())
    made["signature"] |= {"blocks": file_checksums._signature(tokens)["blocks"]}  # as if no sampled block had changed
    record.write_text(json.dumps(made))
    with pytest.raises(DataError, match="the file is damaged"):
        gptzoo.train(spec, tmp_path / "run", resume=True, quiet=True)
    assert gptzoo.train(spec, tmp_path / "run", resume=True, quiet=True).steps == 4
    assert tokens.read_bytes() == intact

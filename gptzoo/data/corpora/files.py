"""The base class of corpora that read files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from gptzoo.data.corpora.corpus import Corpus, Split, is_held_out
from gptzoo.data.corpora.file_text import Document, read_whole
from gptzoo.data.file_checksums import file_sha256
from gptzoo.data.utf8 import open_binary
from gptzoo.errors import DataError
from gptzoo.spec.paths import PathOption
from gptzoo.terminal.activity import each


class FileCorpus(Corpus):
    """Base class of corpora that read files: paths, train/validation split and fingerprint.

    A subclass sets `suffix` and implements `_read`.
    """

    suffix = ""

    class Config(Corpus.Config):
        path: PathOption
        """A file, or a folder whose matching files are all read. Relative to the spec file or the current folder."""
        val_path: PathOption | None = None
        """Validation file or folder. Default: none; a part of `path` is held out instead."""
        val_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
        """Fraction of `path` held out for validation. Unused with `val_path`."""

    config: Config

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.config.type}/{self.config.val_fraction}".encode())
        for path in (self.config.path, self.config.val_path):
            digest.update(b"|")
            for file in each(self._files(path) if path else [], f"computing checksums of {path}"):
                with open_binary(file):  # raises DataError if it cannot be read
                    digest.update(bytes.fromhex(file_sha256(file)))
        return digest.hexdigest()

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the non-empty documents of a split. Raises DataError for unreadable files or an empty split."""
        yield from read_whole(self.read_documents(split))

    def read_documents(self, split: Split) -> Iterator[Document]:
        empty = True
        for document in self._split_documents(split):
            if document:
                empty = False
                yield document
        if empty:
            val_path = self.config.val_path
            path = self.config.path if val_path is None or split == "train" else val_path
            is_blank = all(file.stat().st_size == 0 for file in self._files(path))
            advice = "give more text, or set val_path" if val_path is None else "add text to it"
            advice = f"all of its files are empty; {advice}" if is_blank else advice
            raise DataError(f"corpus {self.config.type!r}: {path}: no text for the {split} split; {advice}")

    def _split_documents(self, split: Split) -> Iterator[Document]:
        if self.config.val_path is not None:
            yield from self._read_all(self.config.path if split == "train" else self.config.val_path)
            return
        for document in self._read_all(self.config.path):
            if is_held_out(document, self.config.val_fraction) == (split == "val"):
                yield document

    def _read_all(self, path: str) -> Iterator[Document]:
        for file in self._files(path):
            yield from self._read(file)

    def _read(self, file: Path) -> Iterator[Document]:
        """Yield the documents of one file."""
        raise TypeError(f"{type(self).__name__} does not implement _read")

    def _files(self, path: str) -> list[Path]:
        location = Path(path)
        if location.is_dir():
            files = sorted(file for file in location.rglob(f"*{self.suffix}") if file.is_file())
            if not files:
                raise DataError(f"corpus {self.config.type!r}: {location}: the folder has no {self.suffix} files")
            return files
        if not location.is_file():
            raise DataError(
                f"corpus {self.config.type!r}: {location}: no such file or folder. Relative paths are searched in the "
                f"folder of the spec file, then in the current folder, {Path.cwd()}."
            )
        return [location]

"""The kind `corpus`: where training text comes from, and which of it is held out for validation."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from gptzoo.component import Component, Config
from gptzoo.data.utf8 import opened, read_utf8, utf8
from gptzoo.errors import DataError
from gptzoo.spec.paths import PathOption

Split = Literal["train", "val"]


class Corpus(Component):
    """Base of the kind. It gives the same documents, in the same order, each time it is asked."""

    kind = "corpus"

    config: Any

    def __init__(self, config: Config):
        self.config = config

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of a split, one by one. Raises DataError for what cannot be read."""
        raise TypeError(f"{type(self).__name__} does not implement documents")

    def fingerprint(self) -> str:
        """A digest of all that decides its documents: the content of files, the options of a generator."""
        raise TypeError(f"{type(self).__name__} does not implement fingerprint")


class FileCorpus(Corpus):
    """What corpora of files share: the paths, the split, the fingerprint."""

    suffix = ""

    class Config(Corpus.Config):
        path: PathOption
        """A file, or a folder that is searched for files; relative to the spec file, else to the current folder."""
        val_path: PathOption | None = None
        """Validation text of its own; `path` is then all for training."""
        val_fraction: float = Field(0.1, gt=0.0, lt=1.0)
        """How much of `path` is held out when there is no val_path."""

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.config.type}/{self.config.val_fraction}".encode())
        for path in (self.config.path, self.config.val_path):
            digest.update(b"|")
            for file in self._files(path) if path else []:
                with opened(file) as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of a split that hold text. Raises DataError if there are none, and for what cannot be read."""
        empty = True
        for document in self._of_split(split):
            if document:
                empty = False
                yield document
        if empty:
            own_val = self.config.val_path is not None
            path = self.config.val_path if own_val and split == "val" else self.config.path
            advice = "put text into it" if own_val else "give more text, or validation text of its own as val_path"
            raise DataError(f"corpus {self.config.type!r}: {path}: nothing is left for the {split} split; {advice}")

    def _of_split(self, split: Split) -> Iterator[str]:
        if self.config.val_path is not None:
            yield from self._read_all(self.config.path if split == "train" else self.config.val_path)
            return
        for document in self._read_all(self.config.path):
            if is_held_out(document, self.config.val_fraction) == (split == "val"):
                yield document

    def _read_all(self, path: str) -> Iterator[str]:
        for file in self._files(path):
            yield from self._read(file)

    def _read(self, file: Path) -> Iterator[str]:
        """The documents in one file."""
        raise TypeError(f"{type(self).__name__} does not implement _read")

    def _files(self, path: str) -> list[Path]:
        place = Path(path)
        if place.is_dir():
            files = sorted(file for file in place.rglob(f"*{self.suffix}") if file.is_file())
            if not files:
                raise DataError(f"corpus {self.config.type!r}: {place}: the folder has no {self.suffix} files")
            return files
        if not place.is_file():
            raise DataError(
                f"corpus {self.config.type!r}: {place}: no such file or folder; "
                f"a relative path is looked up beside the spec file, then in the current folder, {Path.cwd()}"
            )
        return [place]


class TextCorpus(FileCorpus):
    """Plain UTF-8 text: one file, split where its last `val_fraction` of characters begins, or a folder of .txt files.

    In a folder each file is a document, and documents are held out by the hash of their content.
    """

    name = "text"
    suffix = ".txt"

    def _of_split(self, split: Split) -> Iterator[str]:
        if self.config.val_path is not None or Path(self.config.path).is_dir():
            yield from super()._of_split(split)
            return
        (text,) = self._read_all(self.config.path)
        cut = int(len(text) * (1 - self.config.val_fraction))
        yield text[:cut] if split == "train" else text[cut:]

    def _read(self, file: Path) -> Iterator[str]:
        yield read_utf8(file)


class JsonlCorpus(FileCorpus):
    """JSON lines: a document a line, its text under `field`; held out by the hash of its content."""

    name = "jsonl"
    suffix = ".jsonl"

    class Config(FileCorpus.Config):
        field: str = "text"
        """The key of the text in each line's object."""

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint()}/{self.config.field}".encode()).hexdigest()

    def _read(self, file: Path) -> Iterator[str]:
        with opened(file) as lines:  # bytes, so that a line ends at \n and nowhere else
            for number, line in enumerate(lines, start=1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip():
                    yield self._text(line, f"{file}:{number}")

    def _text(self, line: bytes, where: str) -> str:
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where}: byte {error.start} of the line is not UTF-8; convert the file to UTF-8"
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not a line of JSON: {error}") from None
        text = value.get(self.config.field) if isinstance(value, dict) else None
        if not isinstance(text, str):
            found = f"keys: {', '.join(map(repr, value))}" if isinstance(value, dict) else "it is not an object"
            raise DataError(f"{where}: has no text under {self.config.field!r} ({found}); set the corpus's `field`")
        try:
            utf8(text)
        except DataError as error:  # JSON can spell what UTF-8 cannot: "\ud800"
            raise DataError(f"{where}: {error}") from None
        return text


def is_held_out(document: str, fraction: float) -> bool:
    """Decided by the content alone, so that it does not change when documents are added or reordered."""
    digest = hashlib.blake2b(utf8(document), digest_size=8).digest()
    return int.from_bytes(digest, "little") < fraction * 2**64

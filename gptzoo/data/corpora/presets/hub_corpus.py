"""The base classes of presets that are datasets on the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, ClassVar

from pydantic import Field

from gptzoo.data.corpora.corpus import Corpus, Split, is_held_out
from gptzoo.data.corpora.parquet_column import read_parquet_column
from gptzoo.data.file_checksums import file_sha256
from gptzoo.data.utf8 import open_binary
from gptzoo.errors import DataError, HubError
from gptzoo.hub.repository import HubFile, HubRepository
from gptzoo.spec.paths import PathOption
from gptzoo.terminal.activity import activity

_SHARD = re.compile(r"(.*?)(\d{5})-of-(\d{5})")  # at the beginning of the path of a data file
_OPTIONS_OF_ACCESS = {"path", "revision", "streaming"}  # options that do not change the documents by themselves


@dataclass(frozen=True)
class DataFile:
    """A data file of a preset, in a local folder or on the hub."""

    path: str  # in the repository
    location: str  # for errors
    place: Path | HubFile


class HubCorpus(Corpus):
    """Base class of presets: a dataset on the Hugging Face Hub at a pinned commit, or a local copy of it.

    A subclass sets `repository` and `license`, redefines the option `revision` with the pinned commit, and implements
    `patterns` and, for files other than Parquet with a column `text`, `read_file`.
    """

    repository: ClassVar[str] = ""
    license: ClassVar[str] = ""
    downloads = True
    version_of_reading: ClassVar[int] = 1  # raise it when the same files give other documents

    class Config(Corpus.Config):
        path: PathOption | None = None
        """Folder with a copy of the dataset's files, in the layout of the repository. Default: download them into the
        cache of `huggingface_hub`."""
        revision: str = Field(default="main", min_length=1)
        """Commit, tag or branch of the repository. Unused with `path`."""
        streaming: bool = False
        """Read over the network without storing the files. Every pass over the text then downloads it again. Unused
        with `path`."""

    config: Config

    def patterns(self, split: Split) -> tuple[str, ...]:
        """Return the paths of the files of a split in the repository, with `*` as a placeholder."""
        raise TypeError(f"{type(self).__name__} does not implement patterns")

    def read_file(self, source: Path | BinaryIO, location: str) -> Iterator[str]:
        """Yield the text of each row of a data file. Default: the column `text` of a Parquet file."""
        yield from read_parquet_column(source, location, "text", self.config.type)

    def fingerprint(self) -> str:
        """Return a digest of the options and of the commit, or of the content of local files.

        A pinned commit needs no network for it.
        """
        options = self.config.model_dump(mode="json", exclude=_OPTIONS_OF_ACCESS)
        if self.config.path is None:
            with self._data_errors():
                content = [self.repository, self._on_hub.commit]
        else:
            files = {file.path: file for split in ("train", "val") for file in self.files(split)}
            content = [f"{path}:{_sha256(file.place)}" for path, file in sorted(files.items())]
        return hashlib.sha256(json.dumps([self.version_of_reading, options, content]).encode()).hexdigest()

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the non-empty documents of a split. Raises DataError for unreadable files or an empty split."""
        empty = True
        for document in self.split_documents(split):
            if document:
                empty = False
                yield document
        if empty:
            raise DataError(f"{self._label}: no text for the {split} split")

    def split_documents(self, split: Split) -> Iterator[str]:
        """Yield the documents of a split, which may be empty. Default: each row of its files."""
        return self.rows(split)

    def rows(self, split: Split) -> Iterator[str]:
        """Yield the text of each row of all files of a split."""
        for file in self.files(split):
            with self._data_errors(), self._open(file) as source:
                yield from self.read_file(source, file.location)

    def files(self, split: Split) -> list[DataFile]:
        """Return the files of a split in the order of their paths. Raises DataError if one is missing."""
        patterns = self.patterns(split)
        found = [file for file in self._all_files if any(fnmatchcase(file.path, pattern) for pattern in patterns)]
        if not found:
            raise DataError(f"{self._label}: has no file {' or '.join(patterns)}. {self._advice}")
        return self.select(found)

    def select(self, files: list[DataFile]) -> list[DataFile]:
        """Return the files to use. Default: all, and no shard may be missing."""
        numbers: dict[tuple[str, str], set[int]] = {}
        for file in files:
            if match := _SHARD.match(file.path):
                numbers.setdefault((match[1], match[3]), set()).add(int(match[2]))
        for (prefix, total), present in numbers.items():
            if missing := sorted(set(range(int(total))) - present):
                raise DataError(f"{self._label}: file {prefix}{missing[0]:05d}-of-{total} is missing. {self._advice}")
        return files

    @cached_property
    def _all_files(self) -> list[DataFile]:
        if self.config.path is None:
            with self._data_errors():
                listed = self._on_hub.list_files()
            return [DataFile(file.path, f"{self.repository}/{file.path}", file) for file in listed]
        folder = Path(self.config.path)
        if not folder.is_dir():
            raise DataError(f"{self._label}: no such folder. {self._advice}")
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return [DataFile(path.relative_to(folder).as_posix(), str(path), path) for path in paths]

    @contextlib.contextmanager
    def _open(self, file: DataFile) -> Iterator[Path | BinaryIO]:
        if isinstance(file.place, Path):
            yield file.place
        elif self.config.streaming:
            # Reading requests the next blocks, so its errors are errors of the hub.
            with self._on_hub.report_errors(), self._on_hub.open_stream(file.place) as stream:
                yield stream
        else:
            yield self._on_hub.download(file.place)

    @cached_property
    def _on_hub(self) -> HubRepository:
        return HubRepository(self.repository, "dataset", self.config.revision, self._advice)

    @property
    def _advice(self) -> str:
        command = f"hf download --repo-type dataset {self.repository} --local-dir FOLDER"
        return f"Get a copy where there is a network, `{command}`, and set the corpus's `path` to that folder"

    @property
    def _label(self) -> str:
        return f"corpus {self.config.type!r}: {self.config.path or self.repository}"

    @contextlib.contextmanager
    def _data_errors(self) -> Iterator[None]:
        try:
            yield
        except HubError as error:
            raise DataError(f"corpus {self.config.type!r}: {error}") from error


class HashSplitCorpus(HubCorpus):
    """Base class of presets without a validation split. A hash of its content decides if a document is held out."""

    class Config(HubCorpus.Config):
        n_files: int | None = Field(default=None, ge=1)
        """Number of data files to use, the first ones in the order of their names. Default: all."""
        val_fraction: float = Field(default=0.0005, gt=0.0, lt=1.0)
        """Fraction of the documents held out for validation. A document that is held out from some files is held out
        from any number of files."""

    config: Config

    def split_documents(self, split: Split) -> Iterator[str]:
        for document in self.rows(split):
            if is_held_out(document, self.config.val_fraction) == (split == "val"):
                yield document

    def select(self, files: list[DataFile]) -> list[DataFile]:
        """Return the first `n_files`, or all files if no shard is missing."""
        n_files = self.config.n_files
        if n_files is None:
            return super().select(files)
        if n_files > len(files):
            raise DataError(f"{self._label}: has {len(files)} data files, fewer than n_files={n_files}")
        return files[:n_files]


def _sha256(place: Path | HubFile) -> str:
    assert isinstance(place, Path)
    with open_binary(place), activity(f"verifying the download {place.name}"):  # DataError if it cannot be read
        return file_sha256(place)

"""The corpus `hf`: a dataset of Hugging Face `datasets`, from a folder or from the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from gptzoo.data.corpora.corpus import Corpus, Split, is_held_out
from gptzoo.data.utf8 import encode_utf8
from gptzoo.errors import DataError
from gptzoo.spec.paths import resolve_path


def _local_or_hub(path: str, info: ValidationInfo) -> str:
    return str(resolve_path(path, info) or path)


class HfCorpus(Corpus):
    """A Hugging Face dataset with one document per row, in `column`.

    It is streamed or downloaded. The fingerprint covers the hub commit, or the names and modification times of local
    files, but not their content.
    """

    name = "hf"
    downloads = True

    class Config(Corpus.Config):
        path: Annotated[str, Field(min_length=1), AfterValidator(_local_or_hub)]
        """A folder of data files, relative to the spec file or the current folder, or a dataset name on the hub."""
        name: str | None = None
        """Name of the dataset configuration. Default: the dataset's only or default configuration."""
        revision: str | None = None
        """Branch, tag or commit on the hub. Default: the newest commit."""
        split: str = "train"
        """Split of the dataset to train on."""
        val_split: str | None = None
        """Split of the dataset for validation. Default: none; a part of `split` is held out instead."""
        val_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
        """Fraction of `split` held out for validation. Unused with `val_split`."""
        column: str = "text"
        """Name of the text column."""
        streaming: bool = True
        """Stream the dataset. False: download it first, into the cache of `datasets`."""

    config: Config

    def fingerprint(self) -> str:
        builder = self._call("load_dataset_builder")
        data_files = builder.config.data_files or {}
        files = {str(split): [list(map(str, names)), names.origin_metadata] for split, names in data_files.items()}
        options = self.config.model_dump(mode="json", exclude={"streaming", "path"})
        return hashlib.sha256(json.dumps([options, files or builder.hash], sort_keys=True).encode()).hexdigest()

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the non-empty documents of a split. Raises DataError for unreadable data or an empty split."""
        has_val_split = self.config.val_split is not None
        name = self.config.split if self.config.val_split is None or split == "train" else self.config.val_split
        empty = True
        for document in self._read(name):
            if document and (has_val_split or is_held_out(document, self.config.val_fraction) == (split == "val")):
                empty = False
                yield document
        if empty:
            raise self._error(f"no text for the {split} split; give more text, or set val_split")

    def _read(self, split: str) -> Iterator[str]:
        column = self.config.column
        rows = self._call("load_dataset", split=split, streaming=self.config.streaming)
        if rows.column_names is not None:
            if column not in rows.column_names:
                known = ", ".join(map(repr, rows.column_names))
                raise self._error(f"split {split!r} has no column {column!r} (columns: {known})")
            rows = rows.select_columns([column])
        for number, row in enumerate(self._iterate(rows), start=1):
            text = row.get(column)
            if not isinstance(text, str):
                raise self._error(f"split {split!r}, row {number}: {column!r} holds no text")
            try:
                encode_utf8(text)
            except DataError as error:
                raise self._error(f"split {split!r}, row {number}: {error}") from None
            yield text

    def _call(self, function: str, **options: object) -> Any:  # noqa: ANN401  `datasets` is an optional dependency
        """Call a function of `datasets` for this dataset. Its various exceptions become DataErrors."""
        try:
            import datasets
        except ImportError:
            raise DataError("corpus 'hf' needs the package `datasets`: pip install 'gptzoo[hf]'") from None
        config = self.config
        try:
            return getattr(datasets, function)(config.path, config.name, revision=config.revision, **options)
        except Exception as error:
            raise self._error(f"`datasets` cannot load it: {type(error).__name__}: {error}") from error

    def _iterate(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        try:
            yield from rows
        except Exception as error:  # network and file format errors
            raise self._error(f"`datasets` failed while reading: {type(error).__name__}: {error}") from error

    def _error(self, reason: str) -> DataError:
        return DataError(f"corpus 'hf': {self.config.path}: {reason}")

"""The corpus `hf`: what the library `datasets` of Hugging Face can read, from a folder or from its hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from gptzoo.data.corpora.corpus import Corpus, Split, is_held_out
from gptzoo.data.utf8 import utf8
from gptzoo.errors import DataError
from gptzoo.spec.paths import look_up


def _local_or_hub(path: str, info: ValidationInfo) -> str:
    return str(look_up(path, info) or path)


class HfCorpus(Corpus):
    """A dataset of Hugging Face `datasets`: a document a row, its text in `column`; streamed, or downloaded first.

    Its fingerprint is that of the commit on the hub, or of the names and times of local files; not of their content.
    """

    name = "hf"

    class Config(Corpus.Config):
        path: Annotated[str, Field(min_length=1), AfterValidator(_local_or_hub)]
        """A folder of data files, relative to the spec file or the current folder; else a name on the hub."""
        name: str | None = None
        """Which configuration of the dataset, where it has several."""
        revision: str | None = None
        """Branch, tag or commit on the hub; left out, the newest."""
        split: str = "train"
        """The dataset's own split to train on."""
        val_split: str | None = None
        """The dataset's own split for validation; left out, documents of `split` are held out by their content."""
        val_fraction: float = Field(0.1, gt=0.0, lt=1.0)
        """How much of `split` is held out when there is no val_split."""
        column: str = "text"
        """The column of the text."""
        streaming: bool = True
        """Read as it comes. false downloads first, into the cache of `datasets`."""

    def fingerprint(self) -> str:
        described = self._call("load_dataset_builder")
        files = described.config.data_files or {}
        found = {str(split): [list(map(str, names)), names.origin_metadata] for split, names in files.items()}
        options = self.config.model_dump(mode="json", exclude={"streaming", "path"})
        return hashlib.sha256(json.dumps([options, found or described.hash], sort_keys=True).encode()).hexdigest()

    def documents(self, split: Split) -> Iterator[str]:
        """The documents of a split that hold text. Raises DataError if there are none, and for what cannot be read."""
        own_val = self.config.val_split is not None
        name = self.config.val_split if own_val and split == "val" else self.config.split
        empty = True
        for document in self._read(name):
            if document and (own_val or is_held_out(document, self.config.val_fraction) == (split == "val")):
                empty = False
                yield document
        if empty:
            raise self._error(f"nothing is left for the {split} split; give more text, or a val_split")

    def _read(self, split: str) -> Iterator[str]:
        column = self.config.column
        rows = self._call("load_dataset", split=split, streaming=self.config.streaming)
        if rows.column_names is not None:
            if column not in rows.column_names:
                known = ", ".join(map(repr, rows.column_names))
                raise self._error(f"split {split!r} has no column {column!r} (columns: {known})")
            rows = rows.select_columns([column])
        for number, row in enumerate(self._guarded(rows), start=1):
            text = row.get(column)
            if not isinstance(text, str):
                raise self._error(f"split {split!r}, row {number}: {column!r} holds no text")
            try:
                utf8(text)
            except DataError as error:
                raise self._error(f"split {split!r}, row {number}: {error}") from None
            yield text

    def _call(self, function: str, **options: Any) -> Any:
        """A function of `datasets` for this dataset. What it raises, of many kinds, becomes a DataError."""
        try:
            import datasets
        except ImportError:
            raise DataError("corpus 'hf' needs the package `datasets`: pip install 'gptzoo[hf]'") from None
        config = self.config
        try:
            return getattr(datasets, function)(config.path, config.name, revision=config.revision, **options)
        except Exception as error:
            raise self._error(f"`datasets` cannot read it: {type(error).__name__}: {error}") from error

    def _guarded(self, rows: Any) -> Iterator[dict[str, Any]]:
        try:
            yield from rows
        except Exception as error:  # of the network, of file formats
            raise self._error(f"`datasets` cannot go on: {type(error).__name__}: {error}") from error

    def _error(self, reason: str) -> DataError:
        return DataError(f"corpus 'hf': {self.config.path}: {reason}")

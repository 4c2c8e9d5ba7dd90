"""The corpus `parquet`: Parquet files, read in batches of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from gptzoo.data.corpora.files import FileCorpus
from gptzoo.data.corpora.parquet_column import read_parquet_column


class ParquetCorpus(FileCorpus):
    """Parquet files with one document per row, in `column`. Needs the package `pyarrow`.

    A hash of its content decides whether a document is held out for validation.
    """

    name = "parquet"
    suffix = ".parquet"

    class Config(FileCorpus.Config):
        column: str = "text"
        """Name of the text column."""

    config: Config

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint()}/{self.config.column}".encode()).hexdigest()

    def _read(self, file: Path) -> Iterator[str]:
        advice = "set the corpus's `column`"
        return read_parquet_column(file, str(file), self.config.column, self.config.type, advice)

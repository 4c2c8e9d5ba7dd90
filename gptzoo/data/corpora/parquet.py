"""The corpus `parquet`: documents in a column of Parquet files, read piece by piece."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptzoo.data.corpora.corpus import FileCorpus
from gptzoo.errors import DataError

_ROWS = 256  # are decoded at once
_BUFFER = 2**20  # bytes of the file are read at once; else it would be a row group, which may be the whole file


class ParquetCorpus(FileCorpus):
    """Parquet files: a document a row, its text in `column`; held out by the hash of its content. Needs `pyarrow`."""

    name = "parquet"
    suffix = ".parquet"

    class Config(FileCorpus.Config):
        column: str = "text"
        """The column of the text."""

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint()}/{self.config.column}".encode()).hexdigest()

    def _read(self, file: Path) -> Iterator[str]:
        arrow, parquet = _pyarrow()
        column = self.config.column
        try:
            with parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER) as table:
                schema = table.schema_arrow
                if column not in schema.names:
                    known = ", ".join(map(repr, schema.names))
                    raise DataError(f"{file}: has no column {column!r} (columns: {known}); set the corpus's `column`")
                if not _holds_text(arrow, schema.field(column).type):
                    raise DataError(f"{file}: column {column!r} holds {schema.field(column).type}, not text")
                batches = table.iter_batches(batch_size=_ROWS, columns=[column])
                for number, value in enumerate((value for rows in batches for value in rows.column(0)), start=1):
                    yield _text(value, f"{file}: row {number}")
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
        except arrow.ArrowException as error:
            raise DataError(f"{file}: not a Parquet file that can be read: {error}") from None


def _holds_text(arrow: Any, kind: Any) -> bool:
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    return arrow.types.is_string(kind) or arrow.types.is_large_string(kind)


def _text(value: Any, where: str) -> str:
    try:
        text = value.as_py()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte {error.start} of the text is not UTF-8") from None
    if text is None:
        raise DataError(f"{where}: has no text (null); leave the row out")
    return text


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError("corpus 'parquet' needs the package `pyarrow`: pip install 'gptzoo[data]'") from None
    return pyarrow, pyarrow.parquet

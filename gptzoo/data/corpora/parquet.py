"""The corpus `parquet`: Parquet files, read in batches of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gptzoo.data.corpora.files import FileCorpus
from gptzoo.errors import DataError

if TYPE_CHECKING:
    import pyarrow

_BATCH_ROWS = 256
_BUFFER_BYTES = 2**20  # without a limit, pyarrow buffers a whole row group, which may be the whole file


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
        arrow, parquet = _import_pyarrow()
        column = self.config.column
        try:
            with parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES) as table:
                schema = table.schema_arrow
                if column not in schema.names:
                    known = ", ".join(map(repr, schema.names))
                    raise DataError(f"{file}: has no column {column!r} (columns: {known}); set the corpus's `column`")
                if not _is_text(arrow, schema.field(column).type):
                    raise DataError(f"{file}: column {column!r} holds {schema.field(column).type}, not text")
                batches = table.iter_batches(batch_size=_BATCH_ROWS, columns=[column])
                for number, value in enumerate((value for rows in batches for value in rows.column(0)), start=1):
                    yield _to_text(value, f"{file}: row {number}")
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
        except arrow.ArrowException as error:
            raise DataError(f"{file}: not a valid Parquet file: {error}") from None


def _is_text(arrow: ModuleType, data_type: pyarrow.DataType) -> bool:
    if arrow.types.is_dictionary(data_type):
        data_type = data_type.value_type
    return bool(arrow.types.is_string(data_type) or arrow.types.is_large_string(data_type))


def _to_text(value: pyarrow.Scalar, location: str) -> str:
    try:
        text: str | None = value.as_py()
    except UnicodeDecodeError as error:
        raise DataError(f"{location}: byte {error.start} of the text is not UTF-8") from None
    if text is None:
        raise DataError(f"{location}: the text is null; remove the row")
    return text


def _import_pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError("corpus 'parquet' needs the package `pyarrow`: pip install 'gptzoo[data]'") from None
    return pyarrow, pyarrow.parquet

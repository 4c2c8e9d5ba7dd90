"""The text column of a Parquet file, read in batches of rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

from gptzoo.errors import DataError

if TYPE_CHECKING:
    import pyarrow

_BATCH_ROWS = 256
_BUFFER_BYTES = 2**20  # without a limit, pyarrow buffers a whole row group, which may be the whole file


def read_parquet_column(
    source: Path | BinaryIO, location: str, column: str, corpus: str, advice: str = ""
) -> Iterator[str]:
    """Yield the text of each row of a file or a stream.

    location: the name of the file, for errors.
    corpus: the type of the corpus, for errors.
    advice: what to do if there is no such column.

    Raises DataError for a file without such a text column, and for a row without text. Errors of a stream pass through.
    """
    arrow, parquet = _import_pyarrow(corpus)
    try:
        with parquet.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES) as table:
            schema = table.schema_arrow
            if column not in schema.names:
                known = ", ".join(map(repr, schema.names))
                hint = f"; {advice}" if advice else ""
                raise DataError(f"{location}: has no column {column!r} (columns: {known}){hint}")
            if not _is_text(arrow, schema.field(column).type):
                raise DataError(f"{location}: column {column!r} holds {schema.field(column).type}, not text")
            batches = table.iter_batches(batch_size=_BATCH_ROWS, columns=[column])
            for number, value in enumerate((value for rows in batches for value in rows.column(0)), start=1):
                yield _to_text(value, f"{location}: row {number}")
    except OSError as error:
        if not isinstance(source, Path):
            raise
        raise DataError(f"{location}: cannot be read: {error.strerror or error}") from None
    except arrow.ArrowException as error:
        raise DataError(f"{location}: not a valid Parquet file: {error}") from None


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


def _import_pyarrow(corpus: str) -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"corpus {corpus!r} needs the package `pyarrow`: pip install 'gptzoo[data]'") from None
    return pyarrow, pyarrow.parquet

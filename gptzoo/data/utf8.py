"""UTF-8 encoding and decoding with errors that name the position."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from gptzoo.errors import DataError


def encode_utf8(text: str) -> bytes:
    """Encode text as UTF-8. Raises DataError for a lone surrogate, which UTF-8 cannot represent."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text has a lone surrogate, {text[error.start]!r}, at character {error.start}. "
            "UTF-8 cannot represent it: remove it."
        ) from None


@contextlib.contextmanager
def open_binary(file: Path) -> Iterator[BufferedReader]:
    """Open a file for reading bytes. Raises DataError if that fails, also while reading."""
    try:
        with open(file, "rb") as stream:
            yield stream
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None


def read_utf8(file: Path) -> str:
    """Read a text file and keep its line ends. Raises DataError with the offset of the first invalid byte."""
    with open_binary(file) as stream:
        data = stream.read()  # in text mode, Python would replace \r\n by \n
    return decode_utf8(data, str(file))


def decode_utf8(data: bytes, source: str) -> str:
    """Decode UTF-8 without a byte order mark; `source` names the data in errors.

    Raises DataError with the offset of the first invalid byte.
    """
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise not_utf8(source, error.start, data) from None


def not_utf8(source: str, position: int, data: bytes) -> DataError:
    """Return the error for `data` of `source` whose byte at `position` of the source is not UTF-8."""
    if b"\0" in data:
        kind = "this is a binary file, or text in UTF-16. Give a text file in UTF-8"
        return DataError(f"{source}: byte {position} is not UTF-8, and there are zero bytes: {kind}")
    return DataError(f"{source}: byte {position} is not UTF-8; convert it to UTF-8")

"""UTF-8 in and out, with errors that say where it breaks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from gptzoo.errors import DataError


def utf8(text: str) -> bytes:
    """The text's bytes; raises DataError for a lone surrogate, which is half of a character and has none."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text has a lone surrogate, {text[error.start]!r}, at character {error.start}; "
            "UTF-8 has no bytes for it, so remove it"
        ) from None


@contextlib.contextmanager
def opened(file: Path) -> Iterator[BufferedReader]:
    """The bytes of a file; raises DataError when they cannot be read."""
    try:
        with open(file, "rb") as stream:
            yield stream
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None


def read_utf8(file: Path) -> str:
    """The text of a file with its line ends as they are; raises DataError with the offset of the first wrong byte."""
    with opened(file) as stream:
        data = stream.read()  # bytes: reading as text would turn \r\n into \n and hide what is there
    return decoded(data, str(file))


def decoded(data: bytes, source: str) -> str:
    """The text of bytes that `source` gave; raises DataError with the offset of the first wrong byte."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff")  # a byte order mark is no text
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: byte {error.start} is not UTF-8; convert it to UTF-8") from None

"""Errors and panics of tokenizer libraries as DataErrors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

from gptzoo.errors import DataError, GptzooError

_MAX_MESSAGE = 200  # characters of the library's message
_LONG_RUN = re.compile(r"\s{1000,}|\S{1000,}")


@contextlib.contextmanager
def report_library_errors(
    name: str, text: str | None = None, reading_errors: Sequence[BaseException] = ()
) -> Iterator[None]:
    """Convert an exception of a library, or a panic of its Rust code, to a DataError.

    name: the tokenizer, for the message.
    text: the text that the library reads. The message names its longest run of whitespace or of other characters.
    reading_errors: errors of the iterator that the library reads. They are raised as they are.
    """
    try:
        yield
    except (GptzooError, MemoryError):
        raise
    except BaseException as error:
        if reading_errors:
            raise reading_errors[0] from None
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        reason = " ".join(str(error).split())[:_MAX_MESSAGE]
        raise DataError(
            f"{name}: the library failed: {type(error).__name__}: {reason}{_describe_longest_run(text or '')}"
        ) from None


def is_panic(error: BaseException) -> bool:
    """Return True for a panic of Rust code: a BaseException of a class that cannot be imported or pickled."""
    return type(error).__name__ == "PanicException"


def _describe_longest_run(text: str) -> str:
    longest = max(_LONG_RUN.finditer(text), key=lambda run: run.end() - run.start(), default=None)
    if longest is None:
        return ""
    kind = "whitespace" if longest[0].isspace() else "characters without whitespace"
    return (
        f". The text has {longest.end() - longest.start():,} {kind} in a row, from {longest[0][:20]!r} on; "
        "shorten such runs, or use tokenizer 'byte' or 'bpe'"
    )

"""Parts of long documents, so that memory does not grow with a document's length."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from gptzoo.data.corpora.file_text import Document, pieces_of
from gptzoo.data.tokenizers.borders import Border, cut_at_borders
from gptzoo.errors import UserNote
from gptzoo.utils.units import scaled

LONG_DOCUMENT = 2**22  # characters; a shorter one is one part
_LONG_PART = 2**22  # characters; the memory for a longer part is announced
_MEMORY_PER_BYTE = 200  # bytes that the library `tokenizers` needs for a byte of text


def parts_of(document: Document, border: Border | None, location: str, tokenizer: str) -> Iterator[str]:
    """Yield a document in parts that end at borders, and a short one whole.

    A part is long if `border` is None or finds none. A UserNote then states the memory that this needs, before it is
    used. `location` and the name of the tokenizer are for this note.
    """
    if isinstance(document, str) and len(document) <= LONG_DOCUMENT:
        yield document
        return
    n_since_border, noted = 0, False

    def watched(text: str) -> int | None:
        nonlocal n_since_border, noted
        position = None if border is None else border(text)
        n_since_border = 0 if position else n_since_border + len(text)
        if n_since_border > _LONG_PART and not noted:
            noted = True
            _announce_memory(document, border, location, tokenizer)
        return position

    if border is None and len(document) > _LONG_PART:
        noted = True
        _announce_memory(document, border, location, tokenizer)
    yield from cut_at_borders(pieces_of(document), watched)


def _announce_memory(document: Document, border: Border | None, location: str, tokenizer: str) -> None:
    reason = (
        f"it is not known where tokenizer {tokenizer!r} allows a cut"
        if border is None
        else f"it has no space or line end that follows a letter for {_LONG_PART:,} characters"
    )
    size = len(document)
    warnings.warn(
        f"{location}: the document of {scaled(size)}B is not read in parts, because {reason}. This may need up to "
        f"{scaled(_MEMORY_PER_BYTE * size)}B of memory. Split the document if that is too much",
        UserNote,
        stacklevel=2,
    )

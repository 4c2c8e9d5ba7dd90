"""`FileText`: a document in a large text file, read in pieces, so that memory does not grow with its length."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gptzoo.data.utf8 import not_utf8, open_binary
from gptzoo.errors import DataError

PIECE_BYTES = 2**20  # of a file, read at a time
_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))  # of UTF-8: every byte of a character but its first


@dataclass(frozen=True)
class FileText:
    """The text between two byte offsets of a UTF-8 file. Both are borders of characters."""

    file: Path
    begin: int
    end: int

    def pieces(self) -> Iterator[str]:
        """Yield the text in order. Raises DataError with the offset of the first byte that is not UTF-8."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        offset = self.begin
        with open_binary(self.file) as stream:
            stream.seek(offset)
            while offset < self.end:
                data = stream.read(min(PIECE_BYTES, self.end - offset))
                if not data:
                    raise DataError(f"{self.file}: the file became shorter while it was read")
                n_pending = len(decoder.getstate()[0])
                try:
                    piece = decoder.decode(data, final=offset + len(data) == self.end)
                except UnicodeDecodeError as error:
                    raise not_utf8(str(self.file), offset - n_pending + error.start, data) from None
                offset += len(data)
                if piece:
                    yield piece

    def __len__(self) -> int:
        """Return the number of bytes."""
        return self.end - self.begin

    def read(self) -> str:
        """Return the whole text."""
        return "".join(self.pieces())


Document = str | FileText


def pieces_of(document: Document) -> Iterator[str]:
    """Yield a document in pieces of bounded length."""
    if isinstance(document, FileText):
        yield from document.pieces()
        return
    for start in range(0, len(document), PIECE_BYTES):
        yield document[start : start + PIECE_BYTES]


def read_whole(documents: Iterable[Document]) -> Iterator[str]:
    """Yield documents as strings."""
    for document in documents:
        yield document.read() if isinstance(document, FileText) else document


def open_text(file: Path) -> FileText:
    """Return the text of a file without its byte order mark."""
    with open_binary(file) as stream:
        begin = len(codecs.BOM_UTF8) if stream.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
        return FileText(file, begin, stream.seek(0, 2))


def split_text(text: FileText, fraction: float) -> tuple[FileText, FileText]:
    """Split a text after this fraction of its characters."""
    n_characters = sum(map(_count_characters, _raw_pieces(text)))
    remaining, cut = int(n_characters * fraction), text.begin
    for data in _raw_pieces(text):
        n_in_piece = _count_characters(data)
        if n_in_piece > remaining:
            cut += _offset_of_character(data, remaining)
            break
        remaining, cut = remaining - n_in_piece, cut + len(data)
    return FileText(text.file, text.begin, cut), FileText(text.file, cut, text.end)


def _raw_pieces(text: FileText) -> Iterator[bytes]:
    offset = text.begin
    with open_binary(text.file) as stream:
        stream.seek(offset)
        while offset < text.end and (data := stream.read(min(PIECE_BYTES, text.end - offset))):
            yield data
            offset += len(data)


def _count_characters(data: bytes) -> int:
    return len(data.translate(None, _CONTINUATION_BYTES))


def _offset_of_character(data: bytes, index: int) -> int:
    """Return the byte offset of a character by bisection over prefixes."""
    low, high = 0, len(data)
    while low < high:
        middle = (low + high) // 2
        if _count_characters(data[: middle + 1]) > index:
            high = middle
        else:
            low = middle + 1
    return low

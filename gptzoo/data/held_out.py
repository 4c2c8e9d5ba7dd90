"""The held-out text of a corpus: its fingerprint, and its overlap with the training text."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gptzoo.data.corpora.file_text import Document, pieces_of

LONG_LINE = 50  # characters; shorter lines recur by chance
_MAX_LINES = 2**17  # distinct held-out lines kept in memory; of more, a sample chosen by hash
_MAX_LINE_LENGTH = 10_000  # characters that are compared; bounds memory for text without line ends


@dataclass(frozen=True)
class Overlap:
    """The held-out text that is also in the training text, in documents and in lines.

    Whitespace is ignored between words. Line counts are estimates from a sample if there are very many lines.
    """

    documents: int  # held-out documents
    equal_documents: int  # held-out documents with an equal document in the training split of the corpus
    similar_documents: int  # the same, if documents that differ in whitespace only count as equal
    duplicates: int  # training documents that equal a held-out one except for whitespace; not those of continuous text
    removed: bool  # True if these duplicates are not in the training text
    lines: int  # held-out lines with text
    repeated_lines: int  # held-out lines that are also lines of the training text
    long_lines: int  # held-out lines of at least LONG_LINE characters
    repeated_long_lines: int

    @classmethod
    def from_record(cls, record: object) -> Overlap | None:
        """Read an overlap from JSON. Return None for a record of another form, such as that of an older version."""
        try:
            return cls(**record) if isinstance(record, dict) else None
        except TypeError:
            return None

    @property
    def is_high(self) -> bool:
        """True if more held-out text is in the training text than lines that recur by chance explain."""
        remaining = 0 if self.removed else self.duplicates
        continuous = self.similar_documents if not self.duplicates else 0
        few_long_lines = self.long_lines * 10 < self.lines
        return (
            remaining + continuous > 0
            or self.repeated_long_lines * 100 > self.long_lines
            or (few_long_lines and self.repeated_lines * 2 > self.lines)
        )

    def describe(self) -> str:
        """Return a sentence with the counts."""
        text = (
            f"{self.similar_documents:,} of {self.documents:,} held-out documents, "
            f"{self.repeated_long_lines:,} of {self.long_lines:,} held-out lines of at least {LONG_LINE} characters "
            f"and {self.repeated_lines:,} of {self.lines:,} lines of any length are also in the training text"
        )
        if not self.duplicates:
            return text
        copies = f"{self.duplicates:,} training document{'s' if self.duplicates > 1 else ''}"
        if self.removed:
            return (
                f"{copies} equal to a held-out one {'were' if self.duplicates > 1 else 'was'} removed "
                f"({self.similar_documents:,} of {self.documents:,} held-out documents); of the held-out lines, "
                f"{self.repeated_long_lines:,} of {self.long_lines:,} with at least {LONG_LINE} characters and "
                f"{self.repeated_lines:,} of {self.lines:,} of any length are also in the training text"
            )
        return f"{text}; {copies} equal to a held-out one were kept"


class TextDigest:
    """A fingerprint of a sequence of documents, independent of any tokenizer."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._n_bytes = 0  # of the document that is being added

    def add(self, document: bytes) -> None:
        """Add a document in UTF-8."""
        self.add_piece(document)
        self.end_document()

    def add_piece(self, piece: bytes) -> None:
        """Add a piece of a document in UTF-8."""
        self._digest.update(piece)
        self._n_bytes += len(piece)

    def end_document(self) -> None:
        """End the document of the last pieces."""
        self._digest.update(self._n_bytes.to_bytes(8, "little"))
        self._n_bytes = 0

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class HeldOutText:
    """Hashes of the held-out documents and lines of a corpus. Memory holds 16 bytes per document."""

    def __init__(self, documents: Iterable[Document]):
        """Read the held-out documents once."""
        exact, normal, self.lines = array("q"), array("q"), LineSample()
        for document in documents:
            exact.append(_hash_exactly(document))
            normal.append(_hash_without_whitespace(document))
            for line in _lines(document):
                self.lines.add(line)
        self.n_documents = len(exact)
        self.exact, self.exact_counts = np.unique(np.array(exact), return_counts=True)
        self.normal, self.normal_counts = np.unique(np.array(normal), return_counts=True)


class OverlapMeter:
    """A measurement of the overlap during one pass over the training documents."""

    def __init__(self, held_out: HeldOutText, *, remove: bool):
        self.held_out = held_out
        self.remove = remove
        self.exact_seen = np.zeros(len(held_out.exact), dtype=bool)
        self.normal_seen = np.zeros(len(held_out.normal), dtype=bool)
        self.lines_seen: set[int] = set()
        self.duplicates = 0
        self._counted: Document | None = None  # the last document that `is_duplicate` has seen

    def is_duplicate(self, document: Document) -> bool:
        """Count an independent training document. Return True if it equals a held-out one and is to be removed."""
        self._counted = document
        is_equal = self._compare(document)
        self.duplicates += is_equal
        return is_equal and self.remove

    def read(self, document: Document) -> None:
        """Compare a document of the training text, and its lines, with the held-out text."""
        if document is not self._counted:  # continuous text
            self._compare(document)
        self._counted = None
        for line in _lines(document):
            if (key := hash(line)) in self.held_out.lines.counts:
                self.lines_seen.add(key)

    def result(self) -> Overlap:
        held_out, lines = self.held_out, self.held_out.lines
        counts = [(count, is_long, key in self.lines_seen) for key, (count, is_long, _) in lines.counts.items()]
        scale = 2**lines.sample_bits
        return Overlap(
            documents=held_out.n_documents,
            equal_documents=int(held_out.exact_counts[self.exact_seen].sum()),
            similar_documents=int(held_out.normal_counts[self.normal_seen].sum()),
            duplicates=self.duplicates,
            removed=self.remove and self.duplicates > 0,
            lines=scale * sum(count for count, _, _ in counts),
            repeated_lines=scale * sum(count for count, _, seen in counts if seen),
            long_lines=scale * sum(count for count, is_long, _ in counts if is_long),
            repeated_long_lines=scale * sum(count for count, is_long, seen in counts if is_long and seen),
        )

    def _compare(self, document: Document) -> bool:
        index = _index(self.held_out.normal, _hash_without_whitespace(document))
        if index is None:
            return False
        self.normal_seen[index] = True
        exact = _index(self.held_out.exact, _hash_exactly(document))
        if exact is not None:
            self.exact_seen[exact] = True
        return True


class LineSample:
    """The distinct lines of a text by hash, or a sample of them if there are too many for memory."""

    def __init__(self) -> None:
        self.counts: dict[int, tuple[int, bool, int]] = {}  # Python's hash -> (occurrences, is long, stable hash)
        self.sample_bits = 0  # one line in 2**sample_bits is kept

    def add(self, line: str) -> None:
        key = hash(line)
        if (known := self.counts.get(key)) is not None:
            self.counts[key] = (known[0] + 1, *known[1:])
            return
        stable = _digest(line.encode("utf-8", "surrogatepass"))
        if stable % 2**self.sample_bits:
            return
        self.counts[key] = (1, len(line) >= LONG_LINE, stable)
        while len(self.counts) > _MAX_LINES:
            self.sample_bits += 1
            self.counts = {key: entry for key, entry in self.counts.items() if entry[2] % 2**self.sample_bits == 0}


def _lines(document: Document) -> Iterator[str]:
    """Yield the lines that have text, with one space between words."""
    unfinished = ""  # the beginning of a line that the next piece continues
    for piece in pieces_of(document):
        begin = 0
        while (end := piece.find("\n", begin)) >= 0:
            yield from _normal_line(unfinished + piece[begin : min(end, begin + _MAX_LINE_LENGTH)])
            unfinished, begin = "", end + 1
        unfinished = (unfinished + piece[begin : begin + _MAX_LINE_LENGTH])[:_MAX_LINE_LENGTH]
    yield from _normal_line(unfinished)


def _normal_line(line: str) -> Iterator[str]:
    if words := " ".join(line[:_MAX_LINE_LENGTH].split()):
        yield words


def _hash_exactly(document: Document) -> int:
    return _hash_pieces(pieces_of(document))


def _hash_without_whitespace(document: Document) -> int:
    return _hash_pieces("".join(piece.split()) for piece in pieces_of(document))


def _hash_pieces(pieces: Iterable[str]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        digest.update(piece.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "little", signed=True)


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _index(hashes: np.ndarray, value: int) -> int | None:
    index = int(np.searchsorted(hashes, value))
    return index if index < len(hashes) and hashes[index] == value else None

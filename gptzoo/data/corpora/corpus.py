"""The base class of corpora, and the train/validation split by content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Literal

from gptzoo.component import Component, Config
from gptzoo.data.corpora.file_text import Document, pieces_of
from gptzoo.data.utf8 import encode_utf8

Split = Literal["train", "val"]


class Corpus(Component):
    """Base class of corpora. Every pass over a split yields the same documents in the same order."""

    kind = "corpus"

    downloads: ClassVar[bool] = False
    """True if building or reading the corpus may download data. `gptzoo check` then does not try it as a part of other
    corpora."""
    provides: ClassVar[Literal["documents", "samples"]] = "documents"
    """Form of the data: documents of text, or samples of token ids with targets (`SampleCorpus`)."""
    default_tokenizer: ClassVar[str] = "byte"
    """Name of the tokenizer of a run with this corpus that sets none."""
    default_batching: ClassVar[str] = "windows"
    """Name of the batching of a run with this corpus that sets none."""

    config: Config

    def __init__(self, config: Config):
        self.config = config

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the documents of a split. Raises DataError for data that cannot be read."""
        raise TypeError(f"{type(self).__name__} does not implement documents")

    def read_documents(self, split: Split) -> Iterator[Document]:
        """Yield the same documents. A corpus may yield a large file as a `FileText`, which is read in pieces."""
        yield from self.documents(split)

    @property
    def is_continuous(self) -> bool:
        """True if the training split is continuous text, not independent documents."""
        return False

    def training_documents(self, is_duplicate: Callable[[Document], bool]) -> Iterator[Document]:
        """Yield the documents of the training split without duplicates of held-out documents.

        `is_duplicate` is called once for each independent document. Continuous text is yielded whole.
        """
        for document in self.read_documents("train"):
            if self.is_continuous or not is_duplicate(document):
                yield document

    def evaluation_sets(self) -> Mapping[str, Corpus]:
        """Return further corpora, by name, on whose held-out part a run is evaluated as well.

        The metrics of a set are `val/<name>/loss` and so on. The names are lower-case words, and no metrics themselves.
        """
        return {}

    def fingerprint(self) -> str:
        """Return a digest of everything that determines the documents: file contents, generator options."""
        raise TypeError(f"{type(self).__name__} does not implement fingerprint")


def is_held_out(document: Document, fraction: float) -> bool:
    """Assign a document to validation with probability `fraction`, by the hash of its content.

    The assignment does not change when other documents are added, removed or reordered.
    """
    digest = hashlib.blake2b(digest_size=8)
    for piece in pieces_of(document):
        digest.update(encode_utf8(piece))
    return int.from_bytes(digest.digest(), "little") < fraction * 2**64

"""A corpus whose training split is free of held-out documents, measured while it is read."""

from __future__ import annotations

from collections.abc import Iterator

from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.corpora.file_text import Document
from gptzoo.data.held_out import HeldOutText, OverlapMeter
from gptzoo.errors import DataError


class CleanCorpus:
    """The documents of a corpus without the training documents that equal a held-out one.

    With `keep_duplicates`, all documents stay. In both cases a pass over the training split measures the overlap.
    """

    def __init__(self, corpus: Corpus, *, keep_duplicates: bool = False):
        """Read the held-out documents. Raises DataError."""
        self.corpus = corpus
        self.config = corpus.config
        self.keep_duplicates = keep_duplicates
        self.held_out = HeldOutText(corpus.read_documents("val"))
        self.meter = self._new_meter()

    def documents(self, split: Split) -> Iterator[Document]:
        """Yield the documents of a split. Raises DataError for a training split that is held out entirely."""
        if split == "val":
            yield from self.corpus.read_documents("val")
            return
        self.meter = self._new_meter()
        empty = True
        for document in self.corpus.training_documents(self.meter.is_duplicate):
            self.meter.read(document)
            empty = False
            yield document
        if empty and self.meter.duplicates:
            raise DataError(
                f"corpus {self.config.type!r}: every training document equals a held-out document, so no text is left "
                "to train on. Give other text for training, or other held-out text"
            )

    def n_removed(self) -> int:
        """Return the number of documents that the current pass over the training split has left out so far."""
        return self.meter.duplicates if self.meter.remove else 0

    def fitting_documents(self) -> Iterator[Document]:
        """Yield the documents of the training split, without measuring the overlap of lines."""
        meter = self._new_meter()
        yield from self.corpus.training_documents(meter.is_duplicate)

    def _new_meter(self) -> OverlapMeter:
        return OverlapMeter(self.held_out, remove=not self.keep_duplicates)

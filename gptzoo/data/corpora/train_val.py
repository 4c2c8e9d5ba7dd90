"""The corpus `train_val`: the training text of one corpus with the held-out text of another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Annotated

from gptzoo.component import Config
from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.corpora.file_text import Document
from gptzoo.data.corpora.nested import NestedCorpus


class TrainValCorpus(Corpus):
    """The training split of one corpus and the validation split of another.

    Runs on different training text are comparable if they have the same held-out text. Training documents that equal a
    held-out one are removed as in any corpus.
    """

    name = "train_val"

    class Config(Corpus.Config):
        train: Annotated[Config, NestedCorpus()]
        """Corpus whose training split is the training text. Its own held-out text is not used."""
        val: Annotated[Config, NestedCorpus()]
        """Corpus whose validation split is the held-out text. Its training text is not used."""

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        self.train: Corpus = config.train.build()
        self.val: Corpus = config.val.build()

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the documents of a split of its corpus."""
        yield from (self.train if split == "train" else self.val).documents(split)

    def read_documents(self, split: Split) -> Iterator[Document]:
        yield from (self.train if split == "train" else self.val).read_documents(split)

    def training_documents(self, is_duplicate: Callable[[Document], bool]) -> Iterator[Document]:
        """Yield the training documents of the first corpus without duplicates of the held-out text of the second."""
        yield from self.train.training_documents(is_duplicate)

    def fingerprint(self) -> str:
        parts = (self.config.type, self.train.fingerprint(), self.val.fingerprint())
        return hashlib.sha256("/".join(parts).encode()).hexdigest()

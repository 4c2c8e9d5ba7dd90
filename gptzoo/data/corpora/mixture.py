"""The corpus `mixture`: several corpora with weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator, PositiveFloat, Strict

from gptzoo.component import Config
from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.corpora.file_text import Document, read_whole
from gptzoo.data.corpora.nested import NestedCorpus
from gptzoo.errors import DataError
from gptzoo.strict_model import StrictModel, option_error


class Share(StrictModel):
    """One corpus of a mixture and its weight."""

    corpus: Annotated[Config, NestedCorpus()]
    """A corpus of any type, including another mixture."""
    weight: PositiveFloat = 1.0
    """Number of copies of each document per epoch. 2: each document twice. 0.25: every fourth document. 1.5: all
    documents, and every second one again."""


def _at_least_one(parts: tuple[Share, ...]) -> tuple[Share, ...]:
    if not parts:
        raise option_error("expected at least one corpus")
    return parts


class MixtureCorpus(Corpus):
    """A weighted mixture of corpora.

    The weight of a corpus is the exact number of copies of each of its documents in an epoch. The validation split is
    the held-out text of all corpora. It holds each document once whatever the weights, so that runs with different
    weights are measured on the same text.
    """

    name = "mixture"

    class Config(Corpus.Config):
        parts: Annotated[tuple[Share, ...], Strict(False), AfterValidator(_at_least_one)]
        """Corpora of the mixture, each an object {"corpus": …, "weight": …}."""

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        self.corpora: list[Corpus] = [part.corpus.build() for part in config.parts]
        # Use the decimal as written: 0.29 of 100 documents are 29, although the float is slightly less.
        self.weights = [Fraction(repr(part.weight)) for part in config.parts]

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the documents corpus by corpus. A corpus with a weight above 1 is repeated as a whole."""
        yield from read_whole(self.read_documents(split))

    def read_documents(self, split: Split) -> Iterator[Document]:
        if split == "train":
            yield from self._weighted(lambda corpus: corpus.read_documents("train"))
            return
        for corpus in self.corpora:
            yield from corpus.read_documents("val")

    def training_documents(self, is_duplicate: Callable[[Document], bool]) -> Iterator[Document]:
        """Yield the training documents as `documents` does. Duplicates are left out before weights are applied."""
        yield from self._weighted(lambda corpus: corpus.training_documents(is_duplicate))

    def _weighted(self, read: Callable[[Corpus], Iterator[Document]]) -> Iterator[Document]:
        for index, (corpus, weight) in enumerate(zip(self.corpora, self.weights, strict=True)):
            for _ in range(int(weight)):
                yield from read(corpus)
            if fraction := weight % 1:
                n_documents = 0
                for document in _take_fraction(read(corpus), fraction):
                    n_documents += 1
                    yield document
                if not n_documents and weight < 1:
                    raise DataError(
                        f"corpus 'mixture': part {index + 1} ({corpus.config.type!r}) has too few documents for a "
                        f"weight of {float(weight)}: none would be used. Raise the weight, or remove the part."
                    )

    def fingerprint(self) -> str:
        parts = [f"{corpus.fingerprint()}*{weight}" for corpus, weight in zip(self.corpora, self.weights, strict=True)]
        return hashlib.sha256("/".join([self.config.type, *parts]).encode()).hexdigest()


def _take_fraction(documents: Iterator[Document], fraction: Fraction) -> Iterator[Document]:
    """Yield floor(n * fraction) of n documents, evenly spaced."""
    numerator, denominator = fraction.as_integer_ratio()
    for index, document in enumerate(documents):
        if (index + 1) * numerator // denominator > index * numerator // denominator:
            yield document

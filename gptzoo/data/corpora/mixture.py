"""The corpus `mixture`: several corpora, each read as often as its weight says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, PositiveFloat, Strict

from gptzoo.component import Config, SpecModel, refusal
from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.errors import DataError
from gptzoo.reference import Reference


class Share(SpecModel):
    """A corpus of a mixture and its weight."""

    corpus: Annotated[Config, Reference("corpus")]
    """Any corpus, a mixture too."""
    weight: PositiveFloat = 1.0
    """How often each of its documents is in an epoch. 2 is twice, 0.25 every fourth, 1.5 all and every second again."""


def _at_least_one(parts: tuple[Share, ...]) -> tuple[Share, ...]:
    if not parts:
        raise refusal("name at least one corpus")
    return parts


class MixtureCorpus(Corpus):
    """Several corpora in one. A weight says how often each document of a corpus is in an epoch, exactly.

    Validation is the held-out text of all of them, each document once whatever the weights, so that runs with other
    weights are measured alike.
    """

    name = "mixture"

    class Config(Corpus.Config):
        parts: Annotated[tuple[Share, ...], Strict(False), AfterValidator(_at_least_one)]
        """The corpora, each as {"corpus": …, "weight": …}."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.corpora: list[Corpus] = [part.corpus.build() for part in config.parts]
        # Of the decimal that was written: 0.29 of 100 documents are 29, although the float is a little less.
        self.weights = [Fraction(repr(part.weight)) for part in config.parts]

    def documents(self, split: Split) -> Iterator[str]:
        """Corpus after corpus; one that is taken more often than once, as a whole again and again."""
        for index, (corpus, weight) in enumerate(zip(self.corpora, self.weights, strict=True)):
            if split == "val":
                yield from corpus.documents("val")
                continue
            for _ in range(int(weight)):
                yield from corpus.documents("train")
            if fraction := weight % 1:
                found = 0
                for document in _every(corpus.documents("train"), fraction):
                    found += 1
                    yield document
                if not found and weight < 1:
                    raise DataError(
                        f"corpus 'mixture': part {index + 1} ({corpus.config.type!r}) has so few documents that its "
                        f"weight of {float(weight)} takes none of them; raise it, or leave the part out"
                    )

    def fingerprint(self) -> str:
        parts = [f"{corpus.fingerprint()}*{weight}" for corpus, weight in zip(self.corpora, self.weights, strict=True)]
        return hashlib.sha256("/".join([self.config.type, *parts]).encode()).hexdigest()


def _every(documents: Iterator[str], fraction: Fraction) -> Iterator[str]:
    """Of n documents floor(n * fraction), as evenly spaced as can be."""
    numerator, denominator = fraction.as_integer_ratio()
    for index, document in enumerate(documents):
        if (index + 1) * numerator // denominator > index * numerator // denominator:
            yield document

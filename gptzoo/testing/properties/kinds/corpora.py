"""Properties of corpora: reproducible documents, and a fingerprint that identifies them."""

from __future__ import annotations

import itertools
from typing import Literal

from gptzoo.component import Config
from gptzoo.data.corpora.corpus import Corpus
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.properties.assembly.options import other_values
from gptzoo.testing.verdict import Failed

_MAX_DOCUMENTS = 100  # read from each split
_SPLITS: tuple[Literal["train", "val"], ...] = ("train", "val")


def check_documents(subject: ComponentUnderTest) -> None:
    """Check that both splits contain text, with the same documents in the same order every time."""
    corpus, rebuilt = subject.config.build(), subject.config.build()
    for split in _SPLITS:
        documents = _documents(corpus, split)
        if not documents:
            raise Failed(f"the {split} split is empty")
        for index, document in enumerate(documents):
            if not isinstance(document, str) or not document:
                raise Failed(f"document {index} of the {split} split is {document!r}; expected text that is not empty")
        for action, same_corpus in (("reading it", corpus), ("building the corpus", rebuilt)):
            if _documents(same_corpus, split) != documents:
                raise Failed(f"{action} a second time gives other documents in the {split} split")


def check_fingerprint(subject: ComponentUnderTest) -> None:
    """Check that the fingerprint is the same every time, and changes with every option that changes the documents."""
    fingerprint = subject.config.build().fingerprint()
    corpus = subject.config.build()
    for origin in ("two corpora with the same options", "two calls of fingerprint()"):
        if corpus.fingerprint() != fingerprint:
            raise Failed(f"{origin} have two fingerprints")
    documents = _documents_by_split(subject.config)
    for name in type(subject.config).model_fields:
        for value, config in itertools.islice(other_values(subject, name), 2):
            if _documents_by_split(config) != documents and config.build().fingerprint() == fingerprint:
                raise Failed(f"{name}={value!r} changes the documents, but not the fingerprint")


def _documents_by_split(config: Config) -> dict[str, list[str]]:
    corpus = config.build()
    return {split: _documents(corpus, split) for split in _SPLITS}


def _documents(corpus: Corpus, split: Literal["train", "val"]) -> list[str]:
    return list(itertools.islice(corpus.documents(split), _MAX_DOCUMENTS))

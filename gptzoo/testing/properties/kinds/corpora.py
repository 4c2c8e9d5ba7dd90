"""Properties of corpora: reproducible documents, disjoint splits, and a fingerprint that identifies the documents."""

from __future__ import annotations

import itertools
from typing import get_args

from gptzoo.component import Config
from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.errors import DataError
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.properties.assembly.options import other_values
from gptzoo.testing.verdict import Failed, Skipped

_MAX_DOCUMENTS = 3000  # read from each split
_FEW_DOCUMENTS = 150  # read from each split, for every other value of an option
SPLITS: tuple[Split, ...] = get_args(Split)


def check_documents(subject: ComponentUnderTest) -> None:
    """Check that both splits contain text, with the same documents in the same order every time."""
    corpus, rebuilt = subject.config.build(), subject.config.build()
    for split in SPLITS:
        documents = read_documents(corpus, split)
        if not documents:
            raise Failed(f"the {split} split is empty")
        for index, document in enumerate(documents):
            if not isinstance(document, str) or not document:
                raise Failed(f"document {index} of the {split} split is {document!r}; expected text that is not empty")
        started = corpus.documents(split)  # a pass that goes on while another one begins
        first = list(itertools.islice(started, len(documents) // 2))
        for action, same_corpus in (("reading it", corpus), ("building the corpus", rebuilt)):
            again = read_documents(same_corpus, split)
            if again != documents:
                raise Failed(
                    f"{action} a second time gives other documents in the {split} split, first document "
                    f"{_first_difference(documents, again)} of {len(documents)}"
                )
        if first + list(itertools.islice(started, len(documents) - len(first))) != documents:
            raise Failed(f"two passes over the {split} split at a time give other documents")


def check_splits(subject: ComponentUnderTest) -> None:
    """Check that no document is in both splits, unless the validation text is given on its own."""
    if getattr(subject.config, "val_path", None) is not None:
        raise Skipped("its validation text is given on its own, by val_path")
    corpus = subject.config.build()
    train = {document: index for index, document in enumerate(read_documents(corpus, "train"))}
    for index, document in enumerate(read_documents(corpus, "val")):
        if document in train:
            raise Failed(f"document {index} of the val split is also document {train[document]} of the train split")


def check_fingerprint(subject: ComponentUnderTest) -> None:
    """Check that the fingerprint is the same every time, and changes with every option that changes the documents."""
    fingerprint = subject.config.build().fingerprint()
    corpus = subject.config.build()
    for origin in ("two corpora with the same options", "two calls of fingerprint()"):
        if corpus.fingerprint() != fingerprint:
            raise Failed(f"{origin} have two fingerprints")
    for split in SPLITS:
        read_documents(corpus, split)
    if corpus.fingerprint() != fingerprint:
        raise Failed("reading the documents changes the fingerprint")
    documents = _documents_by_split(subject.config)
    for name in type(subject.config).model_fields:
        if name == "path" and getattr(subject.component, "downloads", False):  # without a local copy
            continue
        for value, config in itertools.islice(other_values(subject, name), 4):
            try:
                others = _documents_by_split(config)
            except DataError:  # the files cannot provide this value, such as a higher number of files
                continue
            if others != documents and config.build().fingerprint() == fingerprint:
                raise Failed(f"{name}={value!r} changes the documents, but not the fingerprint")


def read_documents(corpus: Corpus, split: Split, limit: int = _MAX_DOCUMENTS) -> list[str]:
    """Return the first `limit` documents of a split."""
    return list(itertools.islice(corpus.documents(split), limit))


def _documents_by_split(config: Config) -> dict[str, list[str]]:
    corpus = config.build()
    return {split: read_documents(corpus, split, _FEW_DOCUMENTS) for split in SPLITS}


def _first_difference(documents: list[str], others: list[str]) -> int:
    pairs = itertools.zip_longest(documents, others)
    return next(index for index, (document, other) in enumerate(pairs) if document != other)

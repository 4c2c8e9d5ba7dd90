"""Properties of corpora: reproducible documents, disjoint splits, and a fingerprint that identifies the documents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import get_args

import numpy as np

from gptzoo.component import Config
from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.corpora.samples import SampleCorpus
from gptzoo.errors import DataError
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.properties.assembly.options import other_values
from gptzoo.testing.verdict import Failed, Skipped
from gptzoo.utils.targets import IGNORED_TARGET

_MAX_DOCUMENTS = 3000  # read from each split
_FEW_DOCUMENTS = 150  # read from each split, for every other value of an option
_MAX_SAMPLES = 400  # read from each split of a corpus of samples, which are generated one by one
_TARGETS = " -> "  # between the tokens and the targets of a sample
SPLITS: tuple[Split, ...] = get_args(Split)


def check_documents(subject: ComponentUnderTest) -> None:
    """Check that both splits contain text or samples, with the same documents in the same order every time."""
    corpus, rebuilt = subject.config.build(), subject.config.build()
    for split in SPLITS:
        documents = read_documents(corpus, split)
        if not documents:
            raise Failed(f"the {split} split is empty")
        for index, document in enumerate(documents):
            if not isinstance(document, str) or not document:
                raise Failed(f"document {index} of the {split} split is {document!r}; expected text that is not empty")
        started = _iterate(corpus, split)  # a pass that goes on while another one begins
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
    train = {_content(document): index for index, document in enumerate(read_documents(corpus, "train"))}
    for index, document in enumerate(map(_content, read_documents(corpus, "val"))):
        if document in train:
            raise Failed(f"document {index} of the val split is also document {train[document]} of the train split")


def check_form(subject: ComponentUnderTest) -> None:
    """Check that samples have their length, token ids of the vocabulary, targets, and metrics that count them."""
    corpus = subject.config.build()
    if not isinstance(corpus, SampleCorpus):
        return  # `check_documents` covers the form of documents
    corpus.alphabet()  # raises DataError for too many token ids
    if corpus.chance.keys() != set(corpus.metric_names) or not all(0 <= p <= 1 for p in corpus.chance.values()):
        raise Failed(f"chance is {dict(corpus.chance)}; expected a probability for {', '.join(corpus.metric_names)}")
    sets = corpus.evaluation_sets()
    for name, other in {"": corpus, **sets}.items():
        assert isinstance(other, SampleCorpus)
        for split in SPLITS:
            for index in range(min(_FEW_DOCUMENTS, other.n_samples(split))):
                _require_form(other, split, index, f"{name} {split} sample {index}".strip())


def _require_form(corpus: SampleCorpus, split: Split, index: int, what: str) -> None:
    sample = corpus.sample(split, index)
    asked = sample.targets[sample.targets != IGNORED_TARGET]
    for name, array, ids in (("tokens", sample.tokens, sample.tokens), ("targets", sample.targets, asked)):
        if array.dtype != np.int64 or array.shape != (corpus.sample_length,):
            raise Failed(f"{what}: {name} are {array.dtype} {array.shape}; expected int64 ({corpus.sample_length},)")
        if len(ids) and not (ids.min() >= 0 and ids.max() < corpus.vocab_size):
            raise Failed(f"{what}: {name} are from {ids.min()} to {ids.max()}, outside the {corpus.vocab_size} ids")
    if not len(asked):
        raise Failed(f"{what} asks for no token")
    for predictions, is_right in ((sample.targets, True), (np.where(sample.targets == 0, 1, 0), False)):
        for name, (right, n) in corpus.hits(sample, predictions).items():
            if n < 1 or right != (n if is_right else 0):
                kind = "right" if is_right else "wrong"
                raise Failed(f"{what}: {name} counts {right} of {n} for predictions that are all {kind}")


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
    """Return the first `limit` documents of a split, or its samples as text: their tokens, and their targets."""
    return list(itertools.islice(_iterate(corpus, split), limit))


def _iterate(corpus: Corpus, split: Split) -> Iterator[str]:
    if not isinstance(corpus, SampleCorpus):
        yield from corpus.documents(split)
        return
    for index in range(min(_MAX_SAMPLES, corpus.n_samples(split))):
        tokens, targets = corpus.sample(split, index)
        yield f"{tokens.tolist()}{_TARGETS}{targets.tolist()}"


def _content(document: str) -> str:
    """Return the part of a document that must not be in both splits: all of it, or the tokens of a sample."""
    return document.partition(_TARGETS)[0]


def _documents_by_split(config: Config) -> dict[str, list[str]]:
    corpus = config.build()
    return {split: read_documents(corpus, split, _FEW_DOCUMENTS) for split in SPLITS}


def _first_difference(documents: list[str], others: list[str]) -> int:
    pairs = itertools.zip_longest(documents, others)
    return next(index for index, (document, other) in enumerate(pairs) if document != other)

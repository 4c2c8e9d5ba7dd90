"""Properties of batchings that read the samples of a corpus: which samples a batch has, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from gptzoo.data.batching.batching import Batch, Batching
from gptzoo.data.corpora.corpus import Split
from gptzoo.data.corpora.draws import Draws
from gptzoo.data.corpora.samples import Sample, SampleCorpus
from gptzoo.data.sample_store import open_samples
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.verdict import Failed
from gptzoo.utils.targets import IGNORED_TARGET

_LENGTH = 6
_SIZES = ((1, 1), (7, 5), (40, 17), (64, 3))  # (training samples, held-out samples)


class KitCorpus(SampleCorpus):
    """Samples of the kit: random tokens, some of which are asked for."""

    name = "kit"
    vocab_size = 50
    sample_length = _LENGTH
    chance: Mapping[str, float] = {"accuracy": 0.02}

    def generate(self, draws: Draws) -> Sample:
        tokens, targets = draws.below(50, _LENGTH), draws.below(50, _LENGTH)
        targets[draws.distinct(_LENGTH, 2)] = IGNORED_TARGET
        return Sample(tokens, targets)


def reads_samples(subject: ComponentUnderTest) -> bool:
    """Return True for a batching that reads samples."""
    assert issubclass(subject.component, Batching)
    return subject.component.reads == "samples"


def check_samples(subject: ComponentUnderTest) -> None:
    """Check that a training sample depends only on its number and the seed, whatever was read before."""
    for batching in _batchings(subject):
        for first in (0, batching.n_samples - 1, 3 * batching.n_samples + 2, 1):
            batch = batching.train_batch(first, 9)
            for row in (8, 0, 3):
                alone = batching.train_batch(first + row, 1)
                if any(not np.array_equal(batch[name][row], alone[name][0]) for name in batch):
                    raise Failed(f"sample {first + row} alone and in a batch of 9 are different")


def check_targets(subject: ComponentUnderTest) -> None:
    """Check that each row of a batch is a sample of the right split, with its targets."""
    for batching in _batchings(subject):
        for split, batch in _batches(batching):
            known = _samples(batching, split)
            for tokens, targets in zip(batch["tokens"], batch["targets"], strict=True):
                if known.get(_key(tokens)) != targets.tolist():
                    raise Failed(f"a {split} batch has a row that is no {split} sample with its targets")


def check_epoch(subject: ComponentUnderTest) -> None:
    """Check that an epoch has every training sample once, in an order that differs between epochs."""
    for batching in _batchings(subject):
        n = batching.n_samples
        orders = [[_key(row) for row in batching.train_batch(epoch * n, n)["tokens"]] for epoch in range(3)]
        for epoch, order in enumerate(orders):
            if Counter(order) != Counter(_samples(batching, "train").keys()):
                raise Failed(f"epoch {epoch} does not have each of the {n} training samples once")
        if n > 20 and (orders[0] == orders[1] or orders[1] == orders[2]):
            raise Failed("two epochs have the same order")


def check_validation(subject: ComponentUnderTest) -> None:
    """Check that validation has each held-out sample once, in batches of any size, the same every time."""
    for batching in _batchings(subject):
        expected = Counter(_samples(batching, "val").keys())
        for n_rows in (1, 2, 9, 1000):
            batches = list(batching.validation_batches(n_rows * _LENGTH))
            if any(batch["tokens"].size > n_rows * _LENGTH for batch in batches):
                raise Failed(f"a validation batch has more than {n_rows * _LENGTH} tokens")
            for attempt in (batches, list(batching.validation_batches(n_rows * _LENGTH))):
                if Counter(_key(row) for batch in attempt for row in batch["tokens"]) != expected:
                    raise Failed(f"validation in batches of {n_rows} rows does not have each held-out sample once")


def check_inputs(subject: ComponentUnderTest) -> None:
    """Check that batches have tokens, targets and the inputs that the batching declares, with metrics that count."""
    for batching in _batchings(subject):
        expected = {"tokens", "targets", *type(batching).enabled_inputs(subject.config)}
        for split, batch in _batches(batching):
            if batch.keys() != expected:
                raise Failed(f"a {split} batch has {', '.join(sorted(batch))}; expected {', '.join(sorted(expected))}")
            n_asked = int((batch["targets"] != IGNORED_TARGET).sum())
            hits = batching.hits(batch, batch["targets"]) if batching.metric_names else {}
            if tuple(hits) != batching.metric_names or hits.get("accuracy", (n_asked, n_asked)) != (n_asked, n_asked):
                raise Failed(f"the metrics of {n_asked} right answers are {dict(hits)}")


def _batchings(subject: ComponentUnderTest) -> Iterator[Batching]:
    for n_train, n_val in _SIZES:
        config = KitCorpus.Config(type=KitCorpus.name, n_train=n_train, n_val=n_val)
        tokenizer, store = open_samples(KitCorpus(config), CharTokenizer.Config(type=CharTokenizer.name))
        yield subject.config.build(store, tokenizer, _LENGTH, n_train)


def _batches(batching: Batching) -> Iterator[tuple[Split, Batch]]:
    yield "train", batching.train_batch(2, 9)
    for batch in batching.validation_batches(4 * _LENGTH):
        yield "val", batch


def _samples(batching: Batching, split: Split) -> dict[bytes, list[int]]:
    assert batching.store.samples is not None
    corpus = batching.store.samples.corpus
    samples = [corpus.sample(split, index) for index in range(corpus.n_samples(split))]
    return {_key(sample.tokens): sample.targets.tolist() for sample in samples}


def _key(tokens: np.ndarray) -> bytes:
    return tokens.astype(np.int64).tobytes()

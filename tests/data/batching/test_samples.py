"""The batching of samples: epochs, validation, metrics, and the prompt of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from toy_task import Echo

import gptzoo
from gptzoo.data.batching.samples import SampleBatching
from gptzoo.data.prepare import prepare
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.training.evaluation.evaluation_data import swap_splits


def batching(*, train_split: bool = False, length: int = 8, **options: Any) -> SampleBatching:
    corpus = Echo.Config(type="echo", **options).build()
    tokenizer, store = prepare(corpus, CharTokenizer.Config(type="char"))
    store = swap_splits(store) if train_split else store
    built = SampleBatching.Config(type="samples").build(store, tokenizer, length, 3)
    assert isinstance(built, SampleBatching)
    return built


def test_an_epoch_has_each_training_sample_once_and_every_epoch_another_order() -> None:
    samples = batching(n_train=37)
    expected = sorted(samples.corpus.sample("train", index).tokens.tolist() for index in range(37))
    epochs = [samples.train_batch(37 * epoch, 37)["tokens"].tolist() for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == expected
    assert epochs[0] != epochs[1]


def test_validation_has_all_held_out_samples_with_masked_targets() -> None:
    samples = batching(n_val=11)
    batches = list(samples.validation_batches(4 * 8))
    assert [len(batch["tokens"]) for batch in batches] == [4, 4, 3]
    tokens, targets = (np.concatenate([batch[name] for batch in batches]) for name in ("tokens", "targets"))
    assert ((targets != gptzoo.IGNORED_TARGET).sum(1) == 4).all()
    rows, columns = np.nonzero(targets != gptzoo.IGNORED_TARGET)
    assert (targets[rows, columns] == tokens[rows, columns - 1]).all()
    assert samples.val_bytes == sum(1 for _ in rows)  # one ASCII character for each target


def test_hits_are_counted_over_the_targets_that_count() -> None:
    samples = batching(n_val=5)
    (batch,) = samples.validation_batches(1000)
    predictions = np.where(batch["targets"] == gptzoo.IGNORED_TARGET, 1, batch["targets"])
    assert samples.hits(batch, predictions) == {"accuracy": (20, 20)}
    predictions[0] = -1
    assert samples.hits(batch, predictions) == {"accuracy": (16, 20)}


def test_the_training_split_can_be_evaluated() -> None:
    samples = batching(train_split=True, n_train=7)
    (batch,) = samples.validation_batches(1000)
    assert batch["tokens"].tolist() == [samples.corpus.sample("train", index).tokens.tolist() for index in range(7)]


def test_the_example_prompt_ends_at_the_first_question() -> None:
    samples = batching()
    tokens, targets = samples.corpus.sample("val", 0)
    prompt = samples.example_prompt()
    assert prompt == tokens[: len(prompt)].tolist()
    assert np.flatnonzero(targets != gptzoo.IGNORED_TARGET)[0] == len(prompt) - 1


def test_samples_longer_than_the_context_can_be_evaluated_but_not_trained_on() -> None:
    samples = batching(length=4)
    with pytest.raises(
        gptzoo.DataError, match=r"samples of 8 tokens are longer than context_length 4. Raise context_length"
    ):
        samples.train_batch(0, 1)
    assert next(samples.validation_batches(1))["tokens"].shape == (1, 8)

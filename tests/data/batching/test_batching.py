"""The content of batches: packed documents and token dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from support import small, with_large_weights

import gptzoo
from gptzoo.data.batching.batching import Batching
from gptzoo.data.token_store import TokenStore
from gptzoo.reference import Reference
from gptzoo.training.evaluation.full_pass import measure

LENGTH = 16


def store_of(train: list[int], val: list[int], seed: int = 0) -> TokenStore:
    """Return a store with documents of these numbers of byte tokens, separated by end-of-text tokens."""
    rng = np.random.default_rng(seed)
    splits, spans = {}, {}
    for split, sizes in (("train", train), ("val", val)):
        ends = np.cumsum(np.array(sizes) + 1) - 1
        ids = rng.integers(97, 110, ends[-1]).astype(np.uint16)
        ids[ends[:-1]] = 256
        splits[split], spans[split] = ids, np.stack([ends - sizes, ends], axis=1)
    n_bytes = {split: int((ids != 256).sum()) for split, ids in splits.items()}
    return TokenStore(**splits, spans=spans, n_bytes=n_bytes, vocab_size=257, fingerprint="x")


STORE = store_of([5, 9, 40, 1, 16, 15, 3, 7] * 20, [5, 30, 2, 8])


def batching_of(kind: str, store: TokenStore = STORE, seed: int = 1, **options: Any) -> Batching:
    tokenizer = Reference("tokenizer").validate("byte").build()
    return Reference("batching").validate({"type": kind, **options}).build(store, tokenizer, LENGTH, seed)


# ---------------------------------------------------------------------- packed


def test_a_packed_document_starts_with_the_previous_separator_and_predicts_the_next() -> None:
    store = store_of([5, 9, 1, 15, 3, 7] * 20, [5, 5])
    batching = batching_of("packed", store)
    batch = batching.train_batch(0, batching.n_samples)
    inputs, ends = [], []
    for documents, tokens, targets in zip(batch["documents"], batch["tokens"], batch["targets"], strict=True):
        for number in set(documents.tolist()) - {-1}:
            in_document = documents == number
            assert targets[in_document][:-1].tolist() == tokens[in_document][1:].tolist()
            inputs.append(tokens[in_document].tolist())
            ends.append(int(targets[in_document][-1]))
    text, spans = store.train.tolist(), store.spans["train"].tolist()
    expected = [[*([256] if begin else []), *text[begin:end]] for begin, end in spans]
    expected[-1] = expected[-1][:-1]  # the last token of the text has no target
    assert sorted(inputs) == sorted(expected)
    assert sorted(ends)[-119:] == [256] * 119


def test_the_rest_of_a_row_is_padding_without_targets() -> None:
    batching = batching_of("packed", store_of([5, 5], [5, 5]), restart_positions=True)
    batch = batching.train_batch(0, 1)
    assert batch["documents"][0].tolist().count(-1) == LENGTH - 10
    padding = batch["documents"] == -1
    assert np.array_equal(padding, batch["targets"] == -100)
    assert np.array_equal(padding, batch["positions"] == -1)


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_predicts_every_token_but_the_first_once(epoch: int) -> None:
    batching = batching_of("packed")
    batch = batching.train_batch(epoch * batching.n_samples, batching.n_samples)
    counted = batch["targets"][batch["targets"] != -100]
    assert np.array_equal(np.sort(counted), np.sort(STORE.train[1:]))


def test_a_sample_does_not_depend_on_the_batch_it_is_in() -> None:
    batching = batching_of("packed", token_dropout=0.3, restart_positions=True)
    first, count = batching.n_samples - 3, 7  # across an epoch
    whole = batching.train_batch(first, count)
    for name, array in whole.items():
        assert array.dtype == np.int64
        assert array.shape == (count, LENGTH)
        parts = [
            batching_of("packed", token_dropout=0.3, restart_positions=True).train_batch(first + n, 1) for n in range(7)
        ]
        assert np.array_equal(array, np.concatenate([part[name] for part in parts]))


def test_the_options_determine_the_inputs_of_a_batch() -> None:
    plain = {"tokens", "targets"}
    for options, extra in (
        ({}, {"documents"}),
        ({"restart_positions": True}, {"documents", "positions"}),
        ({"mask": False}, set()),
    ):
        batching = batching_of("packed", **options)
        assert batching.train_batch(0, 2).keys() == plain | extra
        assert next(batching.validation_batches(64)).keys() == plain | extra
        assert batching.enabled_inputs(batching.config) == extra
    assert np.array_equal(
        batching_of("packed", mask=False).train_batch(5, 9)["tokens"], batching_of("packed").train_batch(5, 9)["tokens"]
    )


def test_positions_that_restart_need_the_mask() -> None:
    spec = {"model": small(vocab_size=None), "steps": 1}
    with pytest.raises(gptzoo.SpecError, match=r"\$\.batching.*restart_positions needs mask: true"):
        gptzoo.load_run_spec({**spec, "batching": {"type": "packed", "mask": False, "restart_positions": True}})


def test_positions_restart_in_each_document() -> None:
    batch = batching_of("packed", restart_positions=True).train_batch(0, 30)
    for documents, positions in zip(batch["documents"], batch["positions"], strict=True):
        for number in set(documents.tolist()) - {-1}:
            in_document = positions[documents == number]
            assert in_document.tolist() == list(range(len(in_document)))


@pytest.mark.parametrize("max_tokens", [1, 40, 10_000])
@pytest.mark.parametrize("kind", ["packed", "windows"])
def test_validation_predicts_every_token_but_the_first_once_and_is_not_shuffled(kind: str, max_tokens: int) -> None:
    batches = list(batching_of(kind, token_dropout=0.5).validation_batches(max_tokens))
    assert all(batch["tokens"].size <= max(max_tokens, LENGTH) for batch in batches)
    inputs, targets = (np.concatenate([batch[name].ravel() for batch in batches]) for name in ("tokens", "targets"))
    assert np.array_equal(np.sort(targets[targets != -100]), np.sort(STORE.val[1:]))
    assert np.array_equal(np.sort(inputs[targets != -100]), np.sort(STORE.val[:-1]))  # no token dropout
    again = list(batching_of(kind, seed=2).validation_batches(max_tokens))
    assert all(np.array_equal(one[name], two[name]) for one, two in zip(batches, again, strict=True) for name in one)


def test_all_batchings_have_the_same_val_bytes() -> None:
    assert batching_of("packed").val_bytes == batching_of("windows").val_bytes == STORE.n_bytes["val"]


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "naive"])
def test_packed_documents_have_the_same_loss_as_single_documents(attention: str, restart: bool) -> None:
    store = store_of([9, 9], [3, 7, 4, 6, 1])
    spec = small(
        vocab_size=257, context_length=LENGTH, attention=attention, positional="learned" if restart else "rope"
    )
    model = with_large_weights(gptzoo.build(spec, seed=1).eval())
    batching = batching_of("packed", store, restart_positions=restart)
    measurement = measure(model, batching.validation_batches(10_000), n_bytes=batching.val_bytes)
    metrics = measurement.as_run_metrics()
    nats, count, last = 0.0, 0, len(store.val) - 1
    for begin, end in zip([0, *store.spans["val"][:-1, 1]], [*store.spans["val"][:-1, 1], last], strict=True):
        text = torch.from_numpy(store.val[begin : end + 1].astype(np.int64))[None]
        with torch.no_grad():
            nats += model(text[:, :-1], text[:, 1:])[1].item() * (end - begin)
        count += end - begin
    assert count == last
    assert metrics["val/loss"] == pytest.approx(nats / count, rel=1e-5)
    assert metrics["val/bits_per_byte"] == pytest.approx(nats / math.log(2) / batching.val_bytes, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"restart_positions": True}, {"mask": False}, {"token_dropout": 0.2}])
def test_a_model_learns_from_packed_documents(options: dict[str, Any], tmp_path: Any) -> None:
    spec = {
        "model": {"context_length": 32, "d_model": 16, "n_layers": 1, "n_heads": 2},
        "corpus": {"type": "stories", "n_stories": 40},
        "batching": {"type": "packed", **options},
        "batch_size": 8,
        "steps": 40,
        "optimizer": {"type": "adamw", "lr": 0.01},
        "sample": {"max_new_tokens": 0},
        "device": "cpu",
    }
    result = gptzoo.train(spec, tmp_path / "run", quiet=True)
    assert result.metrics["val/loss"] < 3.5  # 5.5 for a uniform prediction


# ---------------------------------------------------------------------- token dropout


@pytest.mark.parametrize("kind", ["packed", "windows"])
def test_token_dropout_replaces_the_given_fraction_of_inputs_and_no_targets(kind: str) -> None:
    plain, noisy = batching_of(kind).train_batch(0, 400), batching_of(kind, token_dropout=0.25).train_batch(0, 400)
    assert np.array_equal(plain["targets"], noisy["targets"])
    changed = plain["tokens"] != noisy["tokens"]
    drawn_the_same = np.square(np.bincount(STORE.train) / len(STORE.train)).sum()
    expected = 0.25 * (1 - drawn_the_same)
    assert abs(changed.mean() - expected) < 4 * math.sqrt(expected / changed.size)
    assert abs(changed.mean(axis=0) - expected).max() < 5 * math.sqrt(expected / 400)


def test_replacements_have_the_token_frequencies_of_the_text() -> None:
    plain, noisy = (
        batching_of("windows").train_batch(0, 2000),
        batching_of("windows", token_dropout=0.5).train_batch(0, 2000),
    )
    drawn = noisy["tokens"][plain["tokens"] != noisy["tokens"]]
    shares, expected = (np.bincount(ids, minlength=257) / len(ids) for ids in (drawn, STORE.train))
    assert set(np.flatnonzero(shares)) == set(np.flatnonzero(expected))
    assert abs(shares - expected).max() < 0.02


def test_replacements_depend_only_on_seed_and_sample() -> None:
    def changed(first: int, count: int, seed: int = 1) -> np.ndarray:
        plain = batching_of("windows", seed=seed).train_batch(first, count)["tokens"]
        return plain != batching_of("windows", seed=seed, token_dropout=0.3).train_batch(first, count)["tokens"]

    whole = changed(10, 20)
    assert np.array_equal(whole, np.concatenate([changed(10 + number, 1) for number in range(20)]))
    n_samples = batching_of("windows").n_samples
    for other in (changed(10 + n_samples, 20), changed(10, 20, seed=2), changed(11, 20)):
        assert 0.25 < np.mean(whole != other) < 0.6  # 2 * 0.3 * 0.7, less equal replacements


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_a_probability_outside_its_range_is_rejected(probability: float) -> None:
    with pytest.raises(ValueError, match="token_dropout"):
        batching_of("windows", token_dropout=probability)

"""The batching `pairs`: the content of batches, the order of an epoch, and invalid documents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gptzoo_seq2seq import Pairs

import gptzoo

DOCUMENTS = ["ab=xyz", "c=", "def=g=h", "é=k", "l=mnop", "q=r", "stu=vw"]
HELD_OUT = ["ab=ba", "cdef=fe", "é=", "g=gggg", "h=i"]


def pairs_of(
    train: list[str] = DOCUMENTS,
    val: list[str] = HELD_OUT,
    *,
    tokenizer: str = "byte",
    length: int = 8,
    seed: int = 1,
    separator: str | None = "=",
) -> Pairs:
    component = gptzoo.registered("tokenizer")[tokenizer]
    fitted: Any = component.Config().build(component.fit(component.Config(), [*train, *val, "\n"]))
    text: dict[str, list[int]] = {"train": [], "val": []}
    spans: dict[str, list[tuple[int, int]]] = {"train": [], "val": []}
    for split, documents in (("train", train), ("val", val)):
        for document in documents:
            text[split] += fitted.separator() if spans[split] else []
            begin = len(text[split])
            text[split] += fitted.encode(document)
            spans[split].append((begin, len(text[split])))
    store = gptzoo.TokenStore(
        train=np.array(text["train"], dtype=np.uint16),
        val=np.array(text["val"], dtype=np.uint16),
        spans={split: np.array(ranges, dtype=np.int64) for split, ranges in spans.items()},
        n_bytes={"train": 0, "val": 0},
        vocab_size=fitted.vocab_size,
        fingerprint="",
    )
    config = Pairs.Config() if separator is None else Pairs.Config(separator=separator)
    return config.build(store, fitted, length, seed)


def texts(pairs: Pairs, batch: dict[str, np.ndarray]) -> list[str]:
    """Check the layout of each sequence of a batch, and return the documents of the batch."""
    end = list(pairs.tokenizer.separator())
    documents = []
    for source, tokens, targets in zip(batch["source"], batch["tokens"], batch["targets"], strict=True):
        n_source, n_target = (source != -1).sum(), (targets != -100).sum()
        assert (source[n_source:] == -1).all()
        assert (targets[n_target:] == -100).all()
        assert (tokens[n_target:] == 0).all()
        assert tokens[0] == pairs.separator
        assert tokens[1:n_target].tolist() == targets[: n_target - 1].tolist()
        assert targets[n_target - len(end) : n_target].tolist() == end
        documents.append(pairs.tokenizer.decode([*source[:n_source], *tokens[:n_target]]))
    return documents


def test_a_document_is_split_at_the_first_separator_and_ends_with_the_end_of_document() -> None:
    pairs = pairs_of(["def=g=h", "a=b"])
    batch = pairs.train_batch(0, 2)
    row = int(np.flatnonzero(batch["source"][:, 1] != -1)[0])
    assert batch["source"][row].tolist() == [*b"def"]
    assert batch["tokens"][row].tolist() == [*b"=g=h"]
    assert batch["targets"][row].tolist() == [*b"g=h", 256]
    assert batch["source"][1 - row].tolist() == [*b"a", -1, -1]
    assert batch["tokens"][1 - row].tolist() == [*b"=b", 0, 0]
    assert batch["targets"][1 - row].tolist() == [*b"b", 256, -100, -100]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize("tokenizer", ["byte", "char"])
def test_an_epoch_visits_every_document_once_in_its_own_order(tokenizer: str) -> None:
    pairs = pairs_of(tokenizer=tokenizer)
    assert pairs.n_samples == len(DOCUMENTS)
    epochs = [texts(pairs, pairs.train_batch(first, 7)) for first in range(0, 42, 7)]
    assert all(sorted(epoch) == sorted(DOCUMENTS) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 3


def test_the_example_prompt_is_the_first_held_out_source_with_the_separator() -> None:
    pairs = pairs_of()
    first = next(pairs.validation_batches(1))
    assert pairs.example_prompt() == [*(t for t in first["source"][0].tolist() if t >= 0), first["tokens"][0, 0]]


def test_a_sample_depends_on_the_seed_and_its_number_only() -> None:
    in_order = texts(pairs_of(), pairs_of().train_batch(0, 30))
    for size in (1, 4, 7, 10):
        pairs = pairs_of()
        starts = range(0, 30 - size + 1, size)
        documents = [text for first in starts for text in texts(pairs, pairs.train_batch(first, size))]
        assert documents == in_order[: len(documents)]
    pairs = pairs_of()
    assert [texts(pairs, pairs.train_batch(number, 1))[0] for number in reversed(range(30))] == in_order[::-1]
    assert texts(pairs_of(), pairs_of().train_batch(11, 5)) == in_order[11:16]
    assert texts(pairs_of(seed=2), pairs_of(seed=2).train_batch(0, 30)) != in_order
    assert texts(pairs_of(), pairs_of(seed=2**70).train_batch(0, 7)) != in_order[:7]


@pytest.mark.parametrize("max_tokens", [1, 16, 33, 1000])
def test_validation_visits_every_held_out_document_once(max_tokens: int) -> None:
    pairs = pairs_of()
    batches = list(pairs.validation_batches(max_tokens))
    assert [text for batch in batches for text in texts(pairs, batch)] == HELD_OUT
    for batch in batches:
        assert len(batch["tokens"]) == 1 or batch["tokens"].size + batch["source"].size <= max_tokens


@pytest.mark.parametrize("tokenizer", ["byte", "char"])
def test_val_bytes_count_the_text_of_the_targets_without_their_ends(tokenizer: str) -> None:
    pairs = pairs_of(val=["ab=bä", "c=d"], tokenizer=tokenizer)
    assert pairs.val_bytes == len("bäd".encode())


def test_sequences_up_to_the_context_length_are_accepted_and_longer_ones_are_refused_by_number() -> None:
    pairs = pairs_of(["abcdefgh=abcdefg"])
    assert pairs.train_batch(0, 1)["source"].shape == pairs.train_batch(0, 1)["tokens"].shape == (1, 8)
    with pytest.raises(gptzoo.DataError, match="train split, document 3: the source is longer than context_length 8"):
        pairs_of(["a=b", "c=d", "abcdefghi=a", "abcdefghi=a"])
    with pytest.raises(gptzoo.DataError, match=r"val split, document 2: the target with its end is longer"):
        pairs_of(val=["a=b", "a=abcdefgh"])


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("abc", r"document 2: no separator '=' between source and target; add it, or set `separator`"),
        ("", r"document 2: no separator '='"),
        ("=abc", r"document 2: no source before the separator '='; add a source or remove the document"),
    ],
)
def test_documents_that_are_not_pairs_are_refused_by_number(document: str, reason: str) -> None:
    with pytest.raises(gptzoo.DataError, match=reason):
        pairs_of(["a=b", document, "c=d"])


def test_a_separator_that_is_not_a_single_token_is_refused() -> None:
    with pytest.raises(
        gptzoo.DataError,
        match="'byte' encodes the separator '=>' as 2 tokens; use a separator that is a single",
    ):
        pairs_of(["a=>b"], separator="=>")
    with pytest.raises(gptzoo.DataError, match="the separator '' as 0 tokens"):
        pairs_of(separator="")
    with pytest.raises(gptzoo.DataError, match="batching 'pairs': separator: tokenizer 'char' has no token for '!'"):
        pairs_of(tokenizer="char", separator="!")


def test_the_separator_defaults_to_a_tab() -> None:
    pairs = pairs_of(["a=b\tc"], ["a\tb"], separator=None)
    assert texts(pairs, pairs.train_batch(0, 1)) == ["a=b\tc"]
    assert pairs.train_batch(0, 1)["source"].tolist() == [[*b"a=b"]]


RUN = {"model": {"context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 1}, "steps": 1}


def error_of(**changes: Any) -> str:
    with pytest.raises(gptzoo.SpecError) as error:
        gptzoo.load_run_spec({**RUN, **changes})
    return str(error.value)


def test_incompatible_batching_and_architecture_are_refused() -> None:
    message = error_of(batching="pairs")
    assert "$.batching: 'pairs' provides source, which architecture 'decoder' does not accept" in message
    message = error_of(model={**RUN["model"], "architecture": "encoder_decoder"})
    assert "$.batching: 'windows' does not provide source, which architecture 'encoder_decoder' requires" in message

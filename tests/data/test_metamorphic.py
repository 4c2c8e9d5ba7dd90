"""Metamorphic tests of `prepare`: changes of a corpus that keep its tokens, or change them in a known way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptzoo.data.prepare import prepare
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.bpe import BpeTokenizer
from gptzoo.reference import Reference

DOCUMENTS = st.lists(st.text(st.sampled_from("ab é🦊\n\r\t."), min_size=1, max_size=12), min_size=2, max_size=8)
few = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
kinds = pytest.mark.parametrize("kind", ["byte", "char", "bpe"])


def component(kind: str, **options: Any) -> Any:
    return Reference(kind).validate(options)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that prepares JSONL files, each a list of documents, as training and as held-out text."""
    n_calls = iter(range(10**6))

    def prepare_files(files: Sequence[Sequence[str]], kind: str, workers: int = 1) -> tuple[Any, TokenStore]:
        folder = tmp_path / str(next(n_calls))
        folder.mkdir()
        for number, documents in enumerate(files):
            lines = "".join(json.dumps({"text": text}) + "\n" for text in documents)
            (folder / f"{number:03d}.jsonl").write_text(lines)
        monkeypatch.setenv("GPTZOO_CACHE", str(folder / "cache"))
        corpus = component("corpus", type="jsonl", path=str(folder), val_path=str(folder)).build()
        tokenizer = component("tokenizer", type=kind)
        return prepare(corpus, tokenizer, workers=workers, keep_duplicates=True)

    return prepare_files


def documents_of(tokenizer: Any, store: TokenStore) -> list[str]:
    return [tokenizer.decode(store.train[begin:end].tolist()) for begin, end in store.spans["train"].tolist()]


@kinds
@few
@given(documents=DOCUMENTS, data=st.data())
def test_a_corpus_that_is_split_over_files_has_the_same_tokens(
    kind: str, prepared: Any, documents: list[str], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(documents) - 1))
    _, whole = prepared([documents], kind)
    _, split = prepared([documents[:cut], documents[cut:]], kind)
    assert split.fingerprint == whole.fingerprint
    assert split.texts == whole.texts


@kinds
@few
@given(documents=DOCUMENTS, data=st.data())
def test_the_order_of_documents_changes_only_their_order(
    kind: str, prepared: Any, documents: list[str], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(documents))
    tokenizer, first = prepared([documents], kind)
    _, second = prepared([shuffled], kind)
    assert documents_of(tokenizer, first) == documents
    assert documents_of(tokenizer, second) == shuffled
    assert Counter(first.train.tolist()) == Counter(second.train.tolist())
    assert first.n_bytes == second.n_bytes


@pytest.mark.parametrize("kind", ["byte", "char"])  # the merges of bpe depend on counts
@few
@given(documents=DOCUMENTS)
def test_a_file_that_is_there_twice_is_read_twice(kind: str, prepared: Any, documents: list[str]) -> None:
    tokenizer, once = prepared([documents], kind)
    _, twice = prepared([documents, documents], kind)
    separator = list(tokenizer.separator())
    assert twice.train.tolist() == [*once.train.tolist(), *separator, *once.train.tolist()]
    assert twice.n_bytes["train"] == 2 * once.n_bytes["train"]


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_the_number_of_workers_changes_nothing(kind: str, prepared: Any) -> None:
    documents = [f"document {number} é🦊\n" * (number % 5 + 1) for number in range(40)]
    stores = [prepared([documents], kind, workers)[1] for workers in (1, 3)]
    assert stores[0].fingerprint == stores[1].fingerprint


@given(texts=st.lists(st.text(), min_size=1, max_size=20))
def test_bpe_has_the_ids_of_the_library_in_batches(texts: list[str]) -> None:
    tokenizer = fitted()
    batch = tokenizer.library_tokenizer.encode_batch(texts, add_special_tokens=False)
    assert [list(tokenizer.encode(text)) for text in texts] == [encoding.ids for encoding in batch]


def fitted() -> Any:
    config = component("tokenizer", type="bpe", vocab_size=300)
    return config.build(BpeTokenizer.fit(config, ["the cat and the dog", "  and naïve 東京\n"]))

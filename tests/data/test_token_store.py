import itertools
import json
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptzoo.component import Config
from gptzoo.data.corpora.corpus import Corpus
from gptzoo.data.prepare import prepare
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError
from gptzoo.reference import Reference

TEXTS = {"train": ["one é\n", "two", "three"], "val": ["four", "five 🦊"]}


class ListCorpus(Corpus):
    """A corpus of given documents that counts how often they are read."""

    def __init__(self, texts: dict[str, list[str]] | None = None):
        super().__init__(Config())
        self.texts = texts or TEXTS
        self.n_read = 0

    def documents(self, split: Any) -> Iterator[str]:
        self.n_read += 1
        yield from self.texts[split]

    def fingerprint(self) -> str:
        return json.dumps(self.texts)


def tokenizer_config(kind: str, **options: Any) -> Config:
    return Reference("tokenizer").validate({"type": kind, **options})


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "tokens").iterdir() if path.suffix != ".lock")


def contents(prepared: tuple[Tokenizer, TokenStore]) -> tuple[Any, ...]:
    """Return everything that `prepare` determines, copied from the files."""
    tokenizer, store = prepared
    ids = store.train.tolist(), store.val.tolist()
    return tokenizer.config, tokenizer.state, *ids, store.n_bytes, store.fingerprint, store.vocab_size


# ---------------------------------------------------------------------- content


def test_documents_are_stored_in_order_with_end_of_text_tokens_between_them() -> None:
    _, store = prepare(ListCorpus(), tokenizer_config("byte"))
    expected = [*"one é\n".encode(), 256, *b"two", 256, *b"three"]
    assert store.train.tolist() == expected
    assert isinstance(store.train, np.memmap)
    assert store.vocab_size == 257


def test_without_an_end_of_text_token_documents_are_separated_by_newlines() -> None:
    tokenizer, store = prepare(ListCorpus({"train": ["ab", "c\n", "d"], "val": ["a", "b"]}), tokenizer_config("char"))
    assert tokenizer.decode(store.train.tolist()) == "ab\nc\n\nd"
    assert tokenizer.decode(store.val.tolist()) == "a\nb"


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_nothing_is_added_to_a_single_document(kind: str) -> None:
    tokenizer, store = prepare(ListCorpus({"train": ["abcd efg"], "val": ["gfedcba"]}), tokenizer_config(kind))
    assert tokenizer.decode(store.train.tolist()) == "abcd efg"
    assert tokenizer.eot not in store.train.tolist()


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_n_bytes_counts_the_decoded_bytes(kind: str) -> None:
    tokenizer, store = prepare(ListCorpus(), tokenizer_config(kind))
    for split in ("train", "val"):
        assert store.n_bytes[split] == len(tokenizer.decode_bytes(getattr(store, split).tolist()))
        assert store.n_bytes[split] == len("".join(TEXTS[split]).encode())


def test_n_bytes_counts_documents_without_newline_separators() -> None:
    tokenizer, store = prepare(ListCorpus({"train": ["ab", "c\n"], "val": ["a", "b"]}), tokenizer_config("char"))
    assert store.n_bytes == {"train": 4, "val": 2}
    assert tokenizer.decode(store.train.tolist()) == "ab\nc\n"


def test_a_tokenizer_is_fitted_on_the_training_text_only() -> None:
    tokenizer, _ = prepare(ListCorpus({"train": ["abc"], "val": ["ab"]}), tokenizer_config("char"))
    assert tokenizer.vocab_size == 3
    with pytest.raises(DataError, match=r"val split, document 1: .*'d'"):
        prepare(ListCorpus({"train": ["abc"], "val": ["abd"]}), tokenizer_config("char"))


@pytest.mark.parametrize(("vocab_size", "width"), [(257, 2), (65536, 2), (65537, 4)])
def test_ids_are_stored_in_two_bytes_if_they_fit(
    vocab_size: int, width: int, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ByteTokenizer, "vocab_size", vocab_size)
    monkeypatch.setattr(ByteTokenizer, "encode", lambda self, text: [vocab_size - 1, 0, 1])
    _, store = prepare(ListCorpus({"train": ["x"], "val": ["y"]}), tokenizer_config("byte"))
    assert store.train.tolist() == [vocab_size - 1, 0, 1]
    raw = (cache / "tokens" / folders(cache)[0] / "train.bin").read_bytes()
    assert raw[:width] == (vocab_size - 1).to_bytes(width, "little")
    assert len(raw) == 3 * width


@pytest.mark.parametrize("ids", [[257], [0, -1]])
def test_ids_outside_the_vocabulary_are_rejected(ids: list[int], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByteTokenizer, "encode", lambda self, text: ids)
    with pytest.raises(DataError, match=r"'byte' returned ids from .* outside its vocabulary of 257"):
        prepare(ListCorpus(), tokenizer_config("byte"))
    assert folders(cache) == []


def test_the_error_for_a_lone_surrogate_names_the_document() -> None:
    with pytest.raises(DataError, match=r"train split, document 2: .*lone surrogate"):
        prepare(ListCorpus({"train": ["ab", "c\udc00"], "val": ["cd"]}), tokenizer_config("byte"))


def test_a_split_with_a_single_token_is_rejected() -> None:
    with pytest.raises(DataError, match=r"the val split has 1 tokens, but needs 2; give more text, or a val_path"):
        prepare(ListCorpus({"train": ["abc"], "val": ["a"]}), tokenizer_config("byte"))


# ---------------------------------------------------------------------- caching


def test_a_second_call_uses_the_cache(cache: Path) -> None:
    corpus = ListCorpus()
    first = contents(prepare(corpus, tokenizer_config("bpe", vocab_size=270)))
    n_read = corpus.n_read
    assert contents(prepare(corpus, tokenizer_config("bpe", vocab_size=270))) == first
    assert corpus.n_read == n_read
    assert len(folders(cache)) == 1


def test_each_corpus_and_tokenizer_has_its_own_folder(cache: Path) -> None:
    other = {**TEXTS, "val": ["four", "five 🦊!"]}
    fingerprints = {
        prepare(corpus, config)[1].fingerprint
        for corpus in (ListCorpus(), ListCorpus(other))
        for config in (tokenizer_config("byte"), tokenizer_config("bpe"), tokenizer_config("bpe", vocab_size=270))
    }
    assert len(folders(cache)) == 6
    # These few texts have no more merges than fit into 270 ids, so two tokenizers may be equal.
    assert len(fingerprints) >= 4


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "index.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "empty"])
def test_a_damaged_cache_is_rebuilt(name: str, damage: str, cache: Path) -> None:
    first = contents(prepare(ListCorpus(), tokenizer_config("bpe")))
    file = cache / "tokens" / folders(cache)[0] / name
    data = file.read_bytes()
    if damage == "remove":
        file.unlink()
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        file.write_bytes({"truncate": data[:-3], "flip": flipped, "empty": b""}[damage])
    if name == "index.json" and damage == "truncate":
        file.write_bytes(data[:-10])  # the last three bytes are whitespace and a brace
    assert contents(prepare(ListCorpus(), tokenizer_config("bpe"))) == first
    assert len(folders(cache)) == 1


def test_a_crash_leaves_no_incomplete_cache(cache: Path) -> None:
    class Killed(BaseException):
        pass

    class Dying(ListCorpus):
        def documents(self, split: Any) -> Iterator[str]:
            yield "some"
            if split == "val":
                raise Killed

    with pytest.raises(Killed):
        prepare(Dying(), tokenizer_config("byte"))
    assert folders(cache) == []
    assert prepare(ListCorpus(), tokenizer_config("byte"))[1].val.tolist()[:4] == list(b"four")


def test_leftovers_of_a_killed_process_are_removed(cache: Path) -> None:
    prepare(ListCorpus(), tokenizer_config("byte"))
    complete = cache / "tokens" / folders(cache)[0]
    leftover = complete.with_name(f".incomplete-{complete.name}-4194305")
    foreign = complete.with_name(".incomplete-of-another-corpus-1")
    complete.rename(leftover)
    foreign.mkdir()
    (leftover / "val.bin").unlink()
    prepare(ListCorpus(), tokenizer_config("byte"))
    assert folders(cache) == sorted([foreign.name, complete.name])


def _prepare_and_report(barrier: Any, results: Any) -> None:
    corpus = ListCorpus({split: texts * 300 for split, texts in TEXTS.items()})
    barrier.wait()
    _, store = prepare(corpus, tokenizer_config("byte"))
    results.put((corpus.n_read, store.fingerprint, int(store.train.sum())))


def test_of_concurrent_processes_one_builds_the_store_and_all_read_it(cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_prepare_and_report, args=(barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    reports = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert len({report[1:] for report in reports}) == 1
    assert sorted(n_read > 0 for n_read, *_ in reports) == [False, False, False, True]
    assert len(folders(cache)) == 1


def test_the_error_for_an_unwritable_cache_says_what_to_do(cache: Path) -> None:
    cache.write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cache.*cannot write tokens.*set GPTZOO_CACHE"):
        prepare(ListCorpus(), tokenizer_config("byte"))


def test_the_default_cache_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPTZOO_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    prepare(ListCorpus(), tokenizer_config("byte"))
    assert os.listdir(tmp_path / ".cache" / "gptzoo") == ["tokens"]


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_spans_give_the_position_of_each_document(kind: str) -> None:
    texts = {"train": ["one é\n", "two", "three"], "val": ["net", "hew"]}
    tokenizer, store = prepare(ListCorpus(texts), tokenizer_config(kind))
    for split, ids in (("train", store.train), ("val", store.val)):
        spans = store.spans[split].tolist()
        assert [tokenizer.decode(ids[first:end].tolist()) for first, end in spans] == texts[split]
        for (_, end), (begin, _) in itertools.pairwise(spans):
            assert ids[end:begin].tolist() == list(tokenizer.separator())

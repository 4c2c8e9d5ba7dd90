"""Long documents in parts: the same files as from whole documents, and a note where parts are not possible."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import admit

from gptzoo.component import Config
from gptzoo.data import document_parts, shards
from gptzoo.data.corpora import file_text
from gptzoo.data.corpora import text as text_corpus
from gptzoo.data.corpora.file_text import FileText, open_text, split_text
from gptzoo.data.prepare import prepare
from gptzoo.data.tokenizers import borders, bpe
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError, UserNote
from gptzoo.reference import Reference

SENTENCES = [
    "The naïve fox (aged 42) jumps.",
    "  Two  spaces\n\n and a tab\t!",
    "東京は大きい。\nそうです",
    "🙂 don't\r\nstop…",
]
TEXT = "\n".join(SENTENCES[index % 4] + f" {index}" for index in range(300))


def component(kind: str, **options: Any) -> Any:
    return Reference(kind).validate(options)


def tokenizer_config(kind: str, folder: Path) -> Config:
    if kind != "saved":
        config: Config = component("tokenizer", type=kind)
        return config
    fitted = bpe.BpeTokenizer.fit(component("tokenizer", type="bpe", vocab_size=300), [TEXT[:1000]])
    (folder / "tokenizer.json").write_text(json.dumps({"config": {"type": "bpe", "vocab_size": 300}, "state": fitted}))
    saved: Config = component("tokenizer", type="saved", path=str(folder / "tokenizer.json"))
    return saved


def read_in_small_parts(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(text_corpus, "MAX_STRING_BYTES", 0)
    monkeypatch.setattr(file_text, "PIECE_BYTES", size)
    monkeypatch.setattr(shards, "SHARD_BYTES", 20 * size)


# ---------------------------------------------------------------------- reading


@given(text=st.text(), size=st.integers(1, 9), fraction=st.floats(0.01, 0.99), bom=st.booleans())
def test_a_file_is_split_as_its_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int, fraction: float, bom: bool
) -> None:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_bytes(b"\xef\xbb\xbf" * bom + text.encode())
    text = text if bom else text.removeprefix("\ufeff")
    before, file_text.PIECE_BYTES = file_text.PIECE_BYTES, size
    try:
        whole = open_text(file)
        assert "".join(whole.pieces()) == whole.read() == text
        cut = int(len(text) * fraction)
        assert [part.read() for part in split_text(whole, fraction)] == [text[:cut], text[cut:]]
    finally:
        file_text.PIECE_BYTES = before


@pytest.mark.parametrize("bad", [b"\xff", b"\xe2\x82", b"\xed\xa0\x80"])
@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_the_first_byte_that_is_not_utf8_is_named(
    bad: bytes, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in_small_parts(monkeypatch, size)
    file = tmp_path / "text.txt"
    file.write_bytes("né€".encode() * 4 + bad + b" more")
    with pytest.raises(DataError, match=rf"text.txt: byte {4 * 6} is not UTF-8; convert it"):
        list(open_text(file).pieces())
    with pytest.raises(DataError, match=r"text.txt: byte 24 is not UTF-8; convert it"):
        prepare(component("corpus", type="text", path=str(file)).build(), component("tokenizer", type="byte"))


def test_a_file_that_becomes_shorter_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("short")
    with pytest.raises(DataError, match="became shorter"):
        FileText(file, 0, 10).read()


# ---------------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    ("kind", "layout", "size"),
    [
        *((kind, "file", size) for kind in ("byte", "char", "bpe", "saved") for size in (40, 97)),
        *(("bpe", layout, 97) for layout in ("val_path", "folder", "mixture")),
        ("char", "folder", 40),
    ],
)
def test_a_text_in_parts_has_the_tokens_of_the_whole_text(
    kind: str, layout: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(6):
        (data / f"{number}.txt").write_text(TEXT[number * 400 :] if number else TEXT, encoding="utf-8")
    single: dict[str, Any] = {"type": "text", "path": str(data / "0.txt")}
    corpus = {
        "file": single,
        "val_path": {**single, "val_path": str(data / "1.txt")},
        "folder": {**single, "path": str(data), "val_fraction": 0.5},
        "mixture": {
            "type": "mixture",
            "parts": [{"corpus": single, "weight": 2}, {"corpus": {**single, "path": str(data), "val_fraction": 0.5}}],
        },
    }[layout]
    config = tokenizer_config(kind, tmp_path)

    def prepared(name: str) -> Any:
        monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / name))
        _, store = prepare(component("corpus", **corpus).build(), config)
        assert store.folder is not None
        files = {file.name: file.read_bytes() for file in store.folder.iterdir()}
        return files, {split: spans.tolist() for split, spans in store.spans.items()}

    whole = prepared("whole")
    read_in_small_parts(monkeypatch, size)
    assert prepared("parts") == whole


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_call_continues_within_a_document(
    workers: int, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    corpus = component("corpus", type="text", path=str(tmp_path / "text.txt")).build()
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "whole"))
    _, whole = prepare(corpus, component("tokenizer", type="byte"))
    monkeypatch.setenv("GPTZOO_CACHE", str(cache))
    read_in_small_parts(monkeypatch, 100)
    monkeypatch.setattr(shards, "SHARD_BYTES", 500)
    encode, n_encoded = ByteTokenizer.encode, []

    def failing(self: Any, text: str) -> Any:
        n_encoded.append(text)
        if len(n_encoded) == 30:
            raise KeyboardInterrupt
        return encode(self, text)

    monkeypatch.setattr(ByteTokenizer, "encode", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus, component("tokenizer", type="byte"))
    assert len(list(cache.glob("unfinished-*/train-*"))) > 2
    _, store = prepare(corpus, component("tokenizer", type="byte"), workers=workers)
    assert store.fingerprint == whole.fingerprint
    assert len(store.spans["train"]) == 1


def test_a_changed_file_is_read_again(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_in_small_parts(monkeypatch, 100)
    file = tmp_path / "text.txt"
    stores = []
    for text in (TEXT, TEXT.replace("fox", "cat"), TEXT):
        file.write_text(text, encoding="utf-8")
        stores.append(
            prepare(component("corpus", type="text", path=str(file)).build(), component("tokenizer", type="byte"))[1]
        )
    assert bytes(stores[1].train.tolist()).decode(errors="ignore") == TEXT.replace("fox", "cat")[: int(len(TEXT) * 0.9)]
    assert stores[0].fingerprint == stores[2].fingerprint != stores[1].fingerprint


def test_a_long_document_of_a_jsonl_file_is_encoded_in_parts(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"text": text}) for text in (TEXT, "short one", TEXT[::-1])]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    corpus = component(
        "corpus", type="jsonl", path=str(tmp_path / "data.jsonl"), val_path=str(tmp_path / "data.jsonl")
    ).build()
    _, whole = prepare(corpus, component("tokenizer", type="bpe"), keep_duplicates=True)
    monkeypatch.setattr(document_parts, "LONG_DOCUMENT", 50)
    monkeypatch.setattr(file_text, "PIECE_BYTES", 60)
    monkeypatch.setattr(shards, "SHARD_BYTES", 200)
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "parts"))
    _, parts = prepare(corpus, component("tokenizer", type="bpe"), keep_duplicates=True)
    assert parts.fingerprint == whole.fingerprint
    assert np.array_equal(parts.spans["val"], whole.spans["val"])


# ---------------------------------------------------------------------- fitting


def test_the_merges_of_bpe_do_not_depend_on_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    config = component("tokenizer", type="bpe", vocab_size=400)
    whole = bpe.BpeTokenizer.fit(config, [TEXT])
    parts = list(borders.cut_at_borders([TEXT], borders.last_word_border, 70))
    assert len(parts) > 50
    assert bpe.BpeTokenizer.fit(config, parts) == whole


def test_a_word_that_is_too_long_for_the_trainer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "MAX_TRAINING_WORD", 10)
    monkeypatch.setattr(bpe, "_LONG_RUN", bpe.re.compile(r"\S{10}|\s{10}"))
    text = "one two " + "abcdefg" * 5 + "!? three" + " " * 25 + "four"
    parts = list(bpe._training_parts(text))
    assert "".join(parts) == text
    words = [word for part in parts for word, _ in bpe._pre_tokenizer().pre_tokenize_str(part)]
    assert max(map(len, words)) <= 10
    assert {"one", "Ġtwo", "!?", "Ġthree", "Ġfour"} <= set(words)


@pytest.mark.parametrize("n", [100_000, 200_000])
def test_the_work_of_the_trainer_is_linear_in_the_length_of_a_word(n: int) -> None:
    """The trainer's time for a word is at most quadratic in its length, so the sum of squares bounds the work."""
    lengths = [
        len(word) for part in bpe._training_parts("x" * n) for word, _ in bpe._pre_tokenizer().pre_tokenize_str(part)
    ]
    assert sum(lengths) == n
    assert sum(length**2 for length in lengths) <= n * bpe.MAX_TRAINING_WORD


# ---------------------------------------------------------------------- notes


class Opaque(Tokenizer):
    """Bytes, by a tokenizer that does not know its borders."""

    name = "opaque"
    vocab_size = 256
    eot = None
    read: list[int] = []

    def encode(self, text: str) -> Sequence[int]:
        Opaque.read.append(len(text))
        return list(text.encode())

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return bytes(ids)


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("opaque", TEXT, "it is not known where tokenizer 'opaque' allows a cut"),
        (
            "bpe",
            "one two " + "x" * 3000 + " a b c d" * 100,
            "it has no space or line end that follows a letter for 1,000",
        ),
    ],
)
def test_the_memory_for_a_document_without_parts_is_said_first(
    kind: str, text: str, reason: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: Any
) -> None:
    admit(Opaque)
    read_in_small_parts(monkeypatch, 100)
    monkeypatch.setattr(document_parts, "_LONG_PART", 1000)
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    corpus = component("corpus", type="text", path=str(file)).build()
    Opaque.read.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserNote)
        with pytest.raises(UserNote) as raised:
            prepare(corpus, component("tokenizer", type=kind))
    assert Opaque.read == []
    assert reason in str(raised.value)
    n_bytes = int(len(text.encode()) * 0.9)
    assert "corpus 'text', train split, document 1: the document of " in str(raised.value)
    assert "B of memory. Split the document" in str(raised.value)
    with pytest.warns(UserNote):
        _, store = prepare(corpus, component("tokenizer", type=kind))
    assert abs(store.n_bytes["train"] - n_bytes) < 200

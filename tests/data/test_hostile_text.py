"""Texts on which tokenizer libraries fail, or which editors and exports produce: right, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from click.testing import CliRunner

from gptzoo.cli import main
from gptzoo.data.prepare import prepare
from gptzoo.data.tokenizers import tiktoken as tiktoken_tokenizer
from gptzoo.data.tokenizers.borders import KNOWN_EXPRESSIONS
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.data.tokenizers.library_errors import report_library_errors
from gptzoo.errors import DataError
from gptzoo.reference import Reference


def component(kind: str, **options: Any) -> Any:
    return Reference(kind).validate(options)


def jsonl(folder: Path, *texts: Any) -> Any:
    """Return a corpus with the same documents for training and validation."""
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return component("corpus", type="jsonl", path=str(file), val_path=str(file))


def val_text(folder: Path) -> Path:
    file = folder / "val.jsonl"
    file.write_text('{"text": "held out"}\n')
    return file


# ---------------------------------------------------------------------- panics


@pytest.fixture
def o200k(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every encoding of tiktoken have o200k's expression and a vocabulary of bytes."""
    pattern = next(expression for expression in KNOWN_EXPRESSIONS if r"\p{Lu}" in expression)
    ranks = {bytes([byte]): byte for byte in range(256)}
    special = {"<|endoftext|>": 256}
    encoding = tiktoken.Encoding("o200k_base", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    monkeypatch.setattr(tiktoken_tokenizer, "_get_encoding", lambda name: encoding)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_panic_of_tiktoken_is_an_error_that_names_the_document(
    workers: str, o200k: None, tmp_path: Path, cache: Path
) -> None:
    corpus = jsonl(tmp_path, "one", "two", "word" + " " * 1_000_000 + "end", "four")
    source = json.dumps({**corpus.model_dump(mode="json"), "val_path": str(val_text(tmp_path))})
    tokenizer = '{"type": "tiktoken", "name": "o200k_base"}'
    result = CliRunner().invoke(main, ["prepare", source, "--tokenizer", tokenizer, "--workers", workers])
    assert result.exit_code == 2, result.output
    assert "corpus 'jsonl'" in result.stderr
    assert "document 3: tokenizer 'tiktoken': the library failed: PanicException" in result.stderr
    assert "1,000,000 whitespace in a row" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_panic_in_the_tokenizer_of_a_plugin_names_the_document(
    workers: int, o200k: None, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding = tiktoken_tokenizer._get_encoding("o200k_base")
    monkeypatch.setattr(ByteTokenizer, "encode", lambda self, text: encoding.encode_ordinary(text))
    corpus = jsonl(tmp_path, "one", " " * 1_000_000)
    corpus = component("corpus", type="jsonl", path=corpus.path, val_path=str(val_text(tmp_path)))
    with pytest.raises(DataError, match=r"train split, document 2: a library of the tokenizer failed: "):
        prepare(corpus.build(), component("tokenizer", type="byte"), workers=workers)


@pytest.mark.parametrize("error", [RuntimeError("bad\nregex"), OSError("gone")])
def test_an_exception_of_a_library_is_a_data_error(error: Exception) -> None:
    with (
        pytest.raises(DataError, match=rf"tokenizer 'x': the library failed: {type(error).__name__}: (bad regex|gone)"),
        report_library_errors("tokenizer 'x'", "text"),
    ):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), DataError("mine")])
def test_other_exceptions_are_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, report_library_errors("tokenizer 'x'"):
        raise error
    assert raised.value is error


def test_an_error_of_the_corpus_while_a_tokenizer_is_fitted_is_unchanged() -> None:
    def texts() -> Any:
        yield "some text"
        raise LookupError("of a plugin")

    config = component("tokenizer", type="bpe", vocab_size=300)
    with pytest.raises(LookupError, match="of a plugin"):
        config.component.fit(config, texts())


# ---------------------------------------------------------------------- characters


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@pytest.mark.parametrize(
    "text", ["a\0b", "a\r\nb\rc", "\ufeffa", "a\u2028b\x85c", "\x1c\x7f", "e\u0301\u200b", "😀" * 50]
)
def test_unusual_characters_come_back(kind: str, text: str, tmp_path: Path, cache: Path) -> None:
    corpus = jsonl(tmp_path, text, "other").build()
    tokenizer, store = prepare(corpus, component("tokenizer", type=kind), keep_duplicates=True)
    (begin, end), _ = store.spans["val"].tolist()
    assert tokenizer.decode(store.val[begin:end].tolist()) == text
    assert store.n_bytes["val"] == len((text + "other").encode())


def test_windows_line_ends_and_a_byte_order_mark_in_a_text_file(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(b"\xef\xbb\xbf" + b"one\r\ntwo\r\n" * 20)
    corpus = component("corpus", type="text", path=str(file), val_path=str(file)).build()
    tokenizer, store = prepare(corpus, component("tokenizer", type="char"))
    assert tokenizer.decode(store.train.tolist()) == "one\r\ntwo\r\n" * 20


@pytest.mark.parametrize("value", [None, 3, ["a"], {"b": 1}])
def test_a_field_that_is_not_text_is_refused_with_its_value(value: Any, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match=r"data.jsonl:2: has no text under 'text' .*; it holds "):
        prepare(jsonl(tmp_path, "one", value).build(), component("tokenizer", type="byte"))


# ---------------------------------------------------------------------- the separator of `char`


def test_char_reads_documents_without_a_newline(tmp_path: Path, cache: Path) -> None:
    texts = ["abc", "cab", "bca"]
    tokenizer, store = prepare(
        jsonl(tmp_path, *texts).build(), component("tokenizer", type="char"), keep_duplicates=True
    )
    assert tokenizer.state == "\nabc"
    assert tokenizer.decode(store.train.tolist()) == "abc\ncab\nbca"
    assert store.n_bytes["train"] == 9
    spans = store.spans["train"].tolist()
    assert [tokenizer.decode(store.train[begin:end].tolist()) for begin, end in spans] == texts


def test_char_reads_a_folder_of_files_without_line_ends(tmp_path: Path, cache: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(f"file {number % 10} of many {number}")
    source = json.dumps({"type": "text", "path": str(tmp_path), "val_fraction": 0.3})
    result = CliRunner().invoke(main, ["prepare", source, "--tokenizer", "char", "--workers", "1", "--json"])
    assert result.exit_code == 0, result.output
    (prepared,) = json.loads(result.stdout)
    counts = prepared["splits"]["train"]
    assert counts["tokens"] == counts["bytes"] + counts["documents"] - 1


def test_the_vocabulary_of_a_single_document_has_no_newline(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "train.txt").write_text("abcabc")
    folder = tmp_path / "val"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.txt").write_text("abc")
    corpus = component("corpus", type="text", path=str(tmp_path / "train.txt"), val_path=str(folder)).build()
    tokenizer, store = prepare(corpus, component("tokenizer", type="char"), keep_duplicates=True)
    assert tokenizer.state == "abc"  # as in runs of earlier versions
    assert store.spans["val"].tolist() == [[0, 3], [3, 6]]

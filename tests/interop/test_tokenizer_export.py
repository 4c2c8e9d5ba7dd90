"""Hugging Face tokenizer files that gptzoo writes: transformers reads the ids of gptzoo from them."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from support import needs_tiktoken_files
from transformers import AutoTokenizer

from gptzoo.data.tokenizers.bpe import BpeTokenizer
from gptzoo.data.tokenizers.special_tokens import SpecialTokens, add_special_tokens
from gptzoo.data.tokenizers.tiktoken import TiktokenTokenizer
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError
from gptzoo.interop.exporting.tokenizer import write_tokenizer
from gptzoo.interop.tokenizer_files import TokenizerFiles
from gptzoo.reference import Reference

TRAINING = ["the cat sat on the mat, the hat and the bat.\n", "naïve café: 10 €, 日本語, 🦊🦊, ▁<0x41>\n"] * 3
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"
    r"\s+(?!\S)|\s"
)
KINDS = ["byte", "char", "bpe", "bos", *(pytest.param(k, marks=needs_tiktoken_files) for k in ("gpt2", "cl100k"))]
every_kind = pytest.mark.parametrize("kind", KINDS)


@functools.cache
def tokenizer_of_kind(kind: str) -> Tokenizer:
    name = {"gpt2": "tiktoken", "cl100k": "tiktoken", "bos": "bpe"}.get(kind, kind)
    config: Any = Reference("tokenizer").validate({"type": name})
    state = config.component.fit(config, iter(TRAINING))
    if kind == "bos":  # a prefix that the post-processor does not add
        state = add_special_tokens(state, SpecialTokens(prefix=(0,), end=(0,), in_text=True))
    tokenizer = config.build(state)
    if kind == "cl100k":  # the expression of GPT-4 with the vocabulary of GPT-2, and ids with gaps
        assert isinstance(tokenizer, TiktokenTokenizer)
        special = {"<|endoftext|>": 50300, "<|fim_prefix|>": 50290}
        gpt2 = tokenizer.encoding
        tokenizer.encoding = tiktoken.Encoding(
            "test", pat_str=CL100K, mergeable_ranks=gpt2._mergeable_ranks, special_tokens=special
        )
        tokenizer.vocab_size, tokenizer.eot, tokenizer.special_ids = 50301, 50300, {*special.values()}
        tokenizer.border = None
    return tokenizer


@functools.cache
def exported(kind: str) -> Any:
    """Return the tokenizer of transformers that reads the written files."""
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(tokenizer_of_kind(kind), Path(folder), max_length=77)
        # A model type with a tokenizer class of its own must not change the ids.
        (Path(folder) / "config.json").write_text('{"model_type": "llama"}')
        return AutoTokenizer.from_pretrained(folder)


@functools.cache
def id_of_byte(kind: str) -> dict[bytes, int]:
    tokenizer = tokenizer_of_kind(kind)
    return {tokenizer.decode_bytes([token]): token for token in range(tokenizer.vocab_size)}


def texts(kind: str) -> st.SearchStrategy[str]:
    characters = st.sampled_from("".join(TRAINING)) if kind == "char" else st.characters(codec="utf-8")
    pieces = ["the", " the cat", "\n\n", "  ", "aaaaaaa", "1234"]
    parts = [st.text(characters), st.sampled_from(["the", " the cat", "\n"] if kind == "char" else pieces)]
    if kind not in ("char", "bos"):
        parts.append(st.sampled_from(["<|endoftext|>", "<|fim_prefix|>"]))
    return st.lists(st.one_of(parts), max_size=8).map("".join)


@pytest.mark.slow
@every_kind
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_text_has_the_same_ids(kind: str, data: st.DataObject) -> None:
    text = data.draw(texts(kind))
    ours, theirs = tokenizer_of_kind(kind), exported(kind)
    assert theirs.encode(text) == list(ours.encode(text))
    assert theirs.encode(text, add_special_tokens=False) == list(ours.encode_continuation(text))


@every_kind
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_ids_have_the_same_text(kind: str, data: st.DataObject) -> None:
    ours, theirs = tokenizer_of_kind(kind), exported(kind)
    ids = data.draw(st.lists(st.integers(0, ours.vocab_size - 1), max_size=30))
    assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "char"])
@given(data=st.binary())
def test_every_byte_string_is_decoded_from_the_ids_of_its_bytes(kind: str, data: bytes) -> None:
    ours, theirs = tokenizer_of_kind(kind), exported(kind)
    ids = [id_of_byte(kind)[bytes([byte])] for byte in data]
    assert ours.decode_bytes(ids) == data
    assert theirs.decode(ids, skip_special_tokens=True) == data.decode("utf-8", errors="replace")


@every_kind
def test_special_tokens_and_the_length_are_named(kind: str) -> None:
    ours, theirs = tokenizer_of_kind(kind), exported(kind)
    assert theirs.eos_token_id == ours.eot
    assert theirs.bos_token_id == (ours.prefix[0] if ours.prefix else None)
    assert theirs.model_max_length == 77


@pytest.mark.parametrize("kind", ["byte", "bpe", "bos", "char"])
def test_gptzoo_reads_its_own_files(kind: str, tmp_path: Path) -> None:
    ours = tokenizer_of_kind(kind)
    write_tokenizer(ours, tmp_path)
    again = TokenizerFiles(tmp_path, ours.vocab_size).read()
    for text in TRAINING:
        assert list(again.encode(text)) == list(ours.encode(text))
        assert again.decode(again.encode(text)) == text
    assert (again.eot, again.prefix) == (ours.eot, ours.prefix)


def test_an_imported_file_is_unchanged_and_what_differs_is_noted(tmp_path: Path) -> None:
    config: Any = Reference("tokenizer").validate({"type": "bpe"})
    state = BpeTokenizer.fit(config, iter(TRAINING))
    special = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}
    end = [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}]
    text = {"Sequence": {"id": "A", "type_id": 0}}
    state["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [text, *end],
        "pair": [text, *end],
        "special_tokens": special,
    }
    imported = config.build(add_special_tokens(state, SpecialTokens(end=(0,))))
    (note,) = write_tokenizer(imported, tmp_path)
    assert "ends each text with the tokens [0]" in note
    assert json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8")) == state


def test_a_character_that_transformers_would_drop_is_noted(tmp_path: Path) -> None:
    (note,) = write_tokenizer(tokenizer_of_kind("char"), tmp_path)
    assert "drops characters" in note


def test_a_tokenizer_without_this_form_is_refused_by_name(tmp_path: Path) -> None:
    class Mine(Tokenizer):
        name = "mine"
        vocab_size, eot = 5, None

    with pytest.raises(DataError, match="'mine' cannot be written as a tokenizer"):
        write_tokenizer(Mine(Mine.Config()), tmp_path)
    assert not list(tmp_path.iterdir())

"""Borders: a text that is cut at them has the same ids, with every known pre-tokenizer."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import pytest
import tiktoken
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from gptzoo.data.tokenizers import borders
from gptzoo.data.tokenizers.borders import border_of_state, cut_at_borders, last_word_border

# Characters of every class of the expressions, and of their edge cases: contractions, marks, exotic whitespace.
TEXTS = st.text(
    st.sampled_from(" \n\r\tabZé1٣'s-/.,_。，我あ한\u0301\u00a0\u3000\u2028\x1c\x85\u200bſ\u0130😀\u0958\u212b"),
    max_size=40,
)
KNOWN = sorted(borders.KNOWN_EXPRESSIONS)
LLAMA, QWEN = (next(e for e in KNOWN if e.startswith("(?i:'s") and n in e) for n in (r"\p{N}{1,3}|", r"\p{N}| ?"))
O200K = next(e for e in KNOWN if r"\p{Lu}" in e)
DEEPSEEK = [e for e in KNOWN if e == r"\p{N}{1,3}"] + [e for e in KNOWN if e[0] == "[" and "\u4e00" in e]
DEEPSEEK += [e for e in KNOWN if e.startswith('[!"')]


def split(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2 = {**BYTES, "use_regex": True}
PRE_TOKENIZERS = {
    "gpt2": GPT2,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, GPT2]},
    "llama3": {"type": "Sequence", "pretokenizers": [split(LLAMA), BYTES]},
    "qwen2": {"type": "Sequence", "pretokenizers": [split(QWEN), BYTES]},
    "o200k": {"type": "Sequence", "pretokenizers": [split(O200K), BYTES]},
    "deepseek": {"type": "Sequence", "pretokenizers": [*map(split, DEEPSEEK), BYTES]},
}


@functools.cache
def library(name: str) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
    """Return a tokenizer whose ids show the words: pairs of most bytes have a merge, NFC as in Qwen."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    state = {**json.loads(tokenizer.to_str()), "pre_tokenizer": PRE_TOKENIZERS[name]}
    if name in ("qwen2", "deepseek"):
        state["normalizer"] = {"type": "NFC"}
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(state))
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=257, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([], trainer)
    return tokenizer, json.loads(tokenizer.to_str())


def words(name: str, text: str) -> list[str]:
    tokenizer, _ = library(name)
    text = text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def all_borders(text: str) -> list[int]:
    return [match.start() for match in borders._WORD_BORDER.finditer(text)]


@settings(max_examples=400)
@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@given(text=TEXTS)
@example("a\n\nb 。\n我 x\nY 1\n2")
def test_the_words_of_both_parts_are_those_of_the_whole_text(name: str, text: str) -> None:
    assert border_of_state(library(name)[1], reads_special_tokens=False) is last_word_border
    for border in all_borders(text):
        assert words(name, text[:border]) + words(name, text[border:]) == words(name, text)


def encodings() -> dict[str, tiktoken.Encoding]:
    """Return the expressions of tiktoken with a vocabulary of bytes and pairs: each word of two bytes is one token."""
    patterns = {"r50k": openai_public.r50k_pat_str}
    # The constructors download the vocabulary, so the expressions are read from their code.
    for name in ("cl100k_base", "o200k_base"):
        constants = _constants(getattr(openai_public, name).__code__)
        patterns[name] = next(iter([c for c in constants if isinstance(c, str) and r"\s+(?!\S)|\s" in c] or [""]))
    patterns["o200k_base"] = O200K
    ranks = {bytes([a]): a for a in range(256)}
    ranks |= {bytes([a, b]): 256 + 256 * a + b for a in range(256) for b in range(256)}
    return {
        name: tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        for name, pattern in patterns.items()
    }


def _constants(code: Any) -> list[object]:
    return list(code.co_consts)


@settings(max_examples=400)
@pytest.mark.parametrize("encoding", encodings().values(), ids=str)
@given(text=TEXTS)
def test_the_ids_of_both_parts_are_those_of_the_whole_text(encoding: tiktoken.Encoding, text: str) -> None:
    whole = encoding.encode_ordinary(text)
    for border in all_borders(text):
        assert encoding.encode_ordinary(text[:border]) + encoding.encode_ordinary(text[border:]) == whole


@given(pieces=st.lists(TEXTS), size=st.integers(1, 20))
def test_parts_end_at_borders_and_add_up(pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    parts = list(cut_at_borders(pieces, last_word_border, size))
    assert "".join(parts) == text
    ends = {sum(map(len, parts[: index + 1])) for index in range(len(parts) - 1)}
    assert ends <= set(all_borders(text))
    assert all(parts)


def test_parts_are_short_where_there_are_borders() -> None:
    parts = list(cut_at_borders(["word " * 10_000], last_word_border, 1000))
    assert max(map(len, parts)) <= 1005


def test_a_text_without_borders_is_one_part() -> None:
    assert list(cut_at_borders(["a" * 5000, "b" * 5000], last_word_border, 1000)) == ["a" * 5000 + "b" * 5000]
    assert list(cut_at_borders(["a b", " c"], None, 1)) == ["a b c"]


@pytest.mark.parametrize(
    "change",
    [
        {"pre_tokenizer": None},
        {"pre_tokenizer": {**GPT2, "add_prefix_space": True}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(r"\w+"), BYTES]}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(r"\p{N}{1,3}"), BYTES]}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}},
        {"normalizer": {"type": "NFKC"}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "▁"}]}},
        {"added_tokens": [{"id": 3, "content": "a b", "special": False, "lstrip": False, "rstrip": False}]},
        {"added_tokens": [{"id": 3, "content": "ab", "special": False, "lstrip": False, "rstrip": True}]},
    ],
)
def test_a_tokenizer_of_another_kind_has_no_borders(change: dict[str, Any]) -> None:
    state = {**library("gpt2")[1], **change}
    assert border_of_state(state, reads_special_tokens=False) is None


def test_the_search_for_a_border_is_linear() -> None:
    class Counting:
        n = 0

        def finditer(self, text: str, start: int) -> Any:
            Counting.n += len(text) - start
            return re.finditer(r"(?!)", text)

    counting = Counting()
    original, borders._WORD_BORDER = borders._WORD_BORDER, counting  # type: ignore[assignment]
    try:
        assert last_word_border("a" * 10**6) is None
    finally:
        borders._WORD_BORDER = original
    assert counting.n < 2 * 10**6

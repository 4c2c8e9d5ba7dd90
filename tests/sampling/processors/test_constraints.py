"""Banned and forced tokens and texts, with every tokenizer, and constraints that contradict each other."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from logits import NEVER, batches, only, processed, processor
from support import needs_tiktoken_files

import gptzoo
from gptzoo import TokenSequence
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.reference import Reference
from gptzoo.sampling.processors.vocabulary import token_bytes

TRAINING = ["abracadabra, barbara; ", "naïve café 日本\n", "the cat and the hat "] * 3
every_tokenizer = pytest.mark.parametrize(
    "kind", ["byte", "char", "bpe", pytest.param("tiktoken", marks=needs_tiktoken_files)]
)


@functools.cache
def fitted(kind: str) -> Tokenizer:
    config = Reference("tokenizer").validate({"type": kind, **({"vocab_size": 300} if kind == "bpe" else {})})
    return config.build(config.component.fit(config, iter(TRAINING)))


@functools.cache
def build_model(vocab_size: int) -> Any:
    spec = {"vocab_size": vocab_size, "context_length": 64, "d_model": 8, "n_layers": 1, "n_heads": 2}
    return gptzoo.build({**spec, "positional": "rope"}, seed=3)


def generate_texts(kind: str, prompt: str, n_rows: int, n_new: int, *processors: dict[str, Any]) -> list[str]:
    """Generate texts with an untrained model, and return each with its prompt."""
    tokenizer = fitted(kind)
    spec = gptzoo.SamplingSpec.model_validate({"max_new_tokens": n_new, "processors": processors})
    prompts = [list(tokenizer.encode(prompt))] * n_rows
    rows = gptzoo.generate(build_model(tokenizer.vocab_size), prompts, spec, tokenizer)
    return [prompt + tokenizer.decode(row) for row in rows]


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@given(data=st.data())
def test_a_token_is_banned_exactly_if_it_would_complete_a_banned_text(kind: str, data: st.DataObject) -> None:
    tokenizer = fitted(kind)
    texts = data.draw(st.lists(st.text("abré日", min_size=1, max_size=4), min_size=1, max_size=3))
    ids = data.draw(st.lists(st.integers(0, 9), max_size=2))
    before = data.draw(st.text("abré日", min_size=1, max_size=8))
    tokens = list(tokenizer.encode(before))
    process = processor("banned_tokens", tokenizer, texts=texts, ids=ids)
    result = process(
        torch.zeros(1, tokenizer.vocab_size), [TokenSequence(tokens, data.draw(st.integers(0, len(tokens))))]
    )
    old = tokenizer.decode_bytes(tokens)
    for token, logit in enumerate(result[0].tolist()):
        new = old + tokenizer.decode_bytes([token])
        completes = any(text.encode() in new[max(0, len(old) - len(text.encode()) + 1) :] for text in texts)
        assert (logit == NEVER) == (token in ids or completes), (new, texts)


@given(batches(), st.data())
def test_banned_ids_are_excluded_and_other_logits_do_not_change(
    batch: tuple[np.ndarray, list[TokenSequence]], data: st.DataObject
) -> None:
    logits, rows = batch
    ids = data.draw(st.lists(st.integers(0, logits.shape[1] - 1), min_size=1, max_size=5))
    ban = processor("banned_tokens", ids=ids)
    expected = logits.copy()
    expected[:, ids] = NEVER
    if (expected.max(-1) == NEVER).any():
        with pytest.raises(InputError, match="contradict each other"):
            processed(ban, logits, rows)
    else:
        np.testing.assert_array_equal(processed(ban, logits, rows), expected)


@given(batches(), st.data())
def test_forced_ids_are_the_only_possible_tokens_until_they_are_generated(
    batch: tuple[np.ndarray, list[TokenSequence]], data: st.DataObject
) -> None:
    logits, rows = batch
    ids = data.draw(st.lists(st.integers(0, logits.shape[1] - 1), min_size=1, max_size=8))
    force = processor("forced_tokens", ids=ids)
    expected = np.array([
        only(row_logits, [ids[len(row.new)]] if len(row.new) < len(ids) else range(len(row_logits)))
        for row, row_logits in zip(rows, logits, strict=True)
    ])  # fmt: skip
    if (expected.max(-1) == NEVER).any():
        with pytest.raises(InputError, match="contradict each other"):
            processed(force, logits, rows)
    else:
        np.testing.assert_array_equal(processed(force, logits, rows), expected)


@every_tokenizer
def test_banned_texts_are_never_generated(kind: str) -> None:
    banned = ["a", "é", " t", "本"]
    bias = {"type": "logit_bias", "biases": {str(t): 8.0 for t in fitted(kind).encode("a café that 日本 e")}}
    unconstrained = generate_texts(kind, "xyz" if kind != "char" else "b", 8, 30, bias)
    assert any(text in one for one in unconstrained for text in banned)
    for one in generate_texts(kind, "b", 8, 30, {"type": "banned_tokens", "texts": banned}, bias):
        assert not any(text in one for text in banned)


@every_tokenizer
def test_a_banned_text_that_starts_in_the_prompt_is_not_completed(kind: str) -> None:
    first, *rest = fitted(kind).encode("bra")
    ban = processor("banned_tokens", fitted(kind), texts=["bra"])
    if rest:
        result = ban(torch.zeros(1, fitted(kind).vocab_size), [TokenSequence([first, *rest[:-1]], len(rest))])
        assert result[0, rest[-1]] == NEVER


@every_tokenizer
def test_the_generated_text_starts_with_the_forced_text(kind: str) -> None:
    texts = generate_texts(kind, "a", 3, 20, {"type": "forced_tokens", "text": "the naïve cat"})
    assert all(text.startswith("athe naïve cat") for text in texts)
    assert len(set(texts)) == 3  # after it, the samples differ


def test_forced_ids_come_first_after_any_prompt() -> None:
    process = processor("forced_tokens", ids=[4, 2])
    logits = torch.randn(3, 6)
    result = process(logits, [TokenSequence([1], 1), TokenSequence([1, 1, 4], 2), TokenSequence([1, 4, 2], 1)])
    assert (result > NEVER).tolist() == [[t == 4 for t in range(6)], [t == 2 for t in range(6)], [True] * 6]
    assert torch.equal(result[result > NEVER], logits[result > NEVER])


def test_banned_ids_are_excluded_in_every_row() -> None:
    logits = torch.randn(2, 6)
    result = processor("banned_tokens", ids=[0, 5])(logits, [TokenSequence([1], 1)] * 2)
    assert (result == NEVER).tolist() == [[t in (0, 5) for t in range(6)]] * 2
    assert torch.equal(result[:, 1:5], logits[:, 1:5])


@pytest.mark.parametrize(
    "processors",
    [
        [{"type": "banned_tokens", "ids": [0, 1, 2]}],
        [{"type": "banned_tokens", "ids": [1]}, {"type": "forced_tokens", "ids": [1]}],
    ],
)
def test_contradicting_constraints_are_an_error(processors: list[dict[str, Any]]) -> None:
    spec = gptzoo.SamplingSpec.model_validate({"processors": processors})
    with pytest.raises(
        InputError, match=rf"'{processors[-1]['type']}'.*no token is possible in row 0.*contradict each other"
    ):
        gptzoo.generate(build_model(3), [[0]] * 2, spec)


def test_a_missing_tokenizer_and_an_unknown_id_are_reported() -> None:
    for options in ({"type": "banned_tokens", "texts": ["a"]}, {"type": "forced_tokens", "text": "a"}):
        spec = gptzoo.SamplingSpec.model_validate({"processors": [options]})
        with pytest.raises(InputError, match=f"{options['type']}' works on text and needs the model's tokenizer"):
            gptzoo.generate(build_model(23), [[1]], spec)
    for name in ("banned_tokens", "forced_tokens"):
        with pytest.raises(InputError, match=f"'{name}': token id 7 is outside the model's vocabulary of 6"):
            processor(name, ids=[7])(torch.zeros(1, 6), [TokenSequence([0], 1)])


@every_tokenizer
def test_the_bytes_of_tokens_make_up_the_text(kind: str) -> None:
    vocabulary = token_bytes(fitted(kind))
    assert len(vocabulary) == fitted(kind).vocab_size
    assert b"".join(vocabulary[token] for token in fitted(kind).encode("naïve 日本")).decode() == "naïve 日本"
    eot = fitted(kind).eot
    assert eot is None or vocabulary[eot] == b""

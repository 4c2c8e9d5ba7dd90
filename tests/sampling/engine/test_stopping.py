"""Where a row ends and its text is cut: whatever the tokens, streamed or not, alone or in a batch."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gptzoo
from gptzoo import TokenSequence
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.reference import Reference
from gptzoo.sampling.engine.stopping import StopDecoder, StoppingCriteria
from gptzoo.sampling.generate import generate, stream
from gptzoo.sampling.score import score

TRAINING = ["abracadabra, barbara; ", "naïve café 日本\n", "the cat and the hat "] * 3


@functools.cache
def fitted(kind: str) -> Tokenizer:
    config = Reference("tokenizer").validate({"type": kind, **({"vocab_size": 300} if kind == "bpe" else {})})
    return config.build(config.component.fit(config, iter(TRAINING)))


def spec(**fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate(fields)


@functools.cache
def model(vocab_size: int) -> Any:
    made = {"vocab_size": vocab_size, "context_length": 64, "d_model": 16, "n_layers": 2, "n_heads": 2}
    return gptzoo.build({**made, "positional": "rope"}, seed=3)


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """The text before the stop text that is complete first, reading byte by byte; of those, the longest."""
    data = text.encode()
    for end in range(1, len(data) + 1):
        ending = [stop for stop in stops if data[:end].endswith(stop.encode())]
        if ending:
            return data[: end - max(len(stop.encode()) for stop in ending)].decode(), True
    return text, False


stops_of = st.lists(st.text("abré日", min_size=1, max_size=4), min_size=1, max_size=3)


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@given(text=st.text("abré日", max_size=12), stops=stops_of)
def test_text_is_given_out_up_to_the_stop_text_that_is_complete_first(kind: str, text: str, stops: list[str]) -> None:
    decoder = StopDecoder(fitted(kind), stops)
    parts = [decoder.feed(token) for token in fitted(kind).encode(text)]
    expected, stopped = cut(text, stops)
    assert "�" not in "".join(parts)
    assert decoder.stopped == stopped
    assert "".join(parts) + decoder.flush() == expected


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@given(prompt=st.text("abré日", max_size=6), text=st.text("abré日", max_size=12), stops=stops_of)
def test_a_row_ends_with_the_token_that_completes_a_stop_text_outside_of_the_prompt(
    kind: str, prompt: str, text: str, stops: list[str]
) -> None:
    before, new = ([*fitted(kind).encode(part)] for part in (prompt, text))
    endings = StoppingCriteria(spec(max_new_tokens=99, stop_texts=stops), [], fitted(kind))
    ended = [
        n for n in range(len(new) + 1) if endings.reason(TokenSequence(before + new[:n], len(before))) == "stop_text"
    ]
    written = [fitted(kind).decode_bytes(new[:n]) for n in range(len(new) + 1)]
    complete = [n for n, data in enumerate(written) if any(stop.encode() in data for stop in stops)]
    assert ended[:1] == complete[:1]


def test_nothing_that_may_begin_a_stop_text_is_given_out_before_it_is_certain() -> None:
    decoder = StopDecoder(fitted("byte"), ["abac"])
    assert [decoder.feed(ord(character)) for character in "xababac!"] == ["x", "", "", "", "ab", "", "", ""]
    assert decoder.flush() == ""


def test_a_stop_text_ends_its_row_alone_and_the_tokens_before_are_as_without() -> None:
    made, tokenizer = model(fitted("char").vocab_size), fitted("char")
    free = generate(made, [[1]] * 8, spec(max_new_tokens=40, seed=2))
    stopped = generate(made, [[1]] * 8, spec(max_new_tokens=40, seed=2, stop_texts=["a", "t h"]), tokenizer)
    lengths = set()
    for whole, row in zip(free, stopped, strict=True):
        assert row == whole[: len(row)]
        assert tokenizer.decode(row).startswith(cut(tokenizer.decode(whole), ["a", "t h"])[0])
        assert cut(tokenizer.decode(row), ["a", "t h"])[1] == (len(row) < 40)
        lengths.add(len(row))
    assert len(lengths) > 3


def test_every_row_says_why_it_ended() -> None:
    made, tokenizer = model(257), fitted("byte")
    how = {"max_new_tokens": 30, "seed": 5, "stop_tokens": [*range(40)], "stop_texts": [chr(c) for c in range(60, 90)]}
    ends: list[Any] = [None] * 12
    last = [0] * 12
    for chosen in stream(made, [[65]] * 12, spec(**how), tokenizer):
        for index, choice in enumerate(chosen):
            assert (choice is None) == (ends[index] is not None)
            if choice is not None:
                ends[index], last[index] = choice.end, choice.token
    assert {"stop_token", "stop_text"} <= set(ends) <= {"stop_token", "stop_text", "length"}
    for end, token in zip(ends, last, strict=True):
        assert (end == "stop_token") == (token < 40)
        assert end != "stop_text" or 60 <= token < 90


def test_a_processor_that_lets_nothing_follow_ends_a_row_before_it_begins() -> None:
    pytest.importorskip("llguidance")
    how = spec(max_new_tokens=5, processors=[{"type": "regex", "pattern": "b?"}])
    ((choice,),) = list(stream(model(fitted("char").vocab_size), [[1]], how, fitted("char")))[:1]
    assert choice is not None
    assert choice.end == "finished"
    empty = spec(max_new_tokens=5, processors=[{"type": "regex", "pattern": ""}])
    assert generate(model(fitted("char").vocab_size), [[1]], empty, fitted("char")) == [[]]


def test_log_probabilities_are_those_of_the_model_whatever_the_processors_did() -> None:
    made = model(257)
    hot = [{"type": "banned_tokens", "ids": [3]}, {"type": "temperature", "value": 3.0}, {"type": "top_k", "k": 40}]
    steps = list(stream(made, [[1, 2], [5, 6, 7]], spec(max_new_tokens=12, processors=hot)))
    for row, prompt in enumerate([[1, 2], [5, 6, 7]]):
        choices = [step[row] for step in steps]
        tokens = [choice.token for choice in choices if choice]
        (expected,) = score(made, [prompt + tokens])
        found = torch.tensor([choice.log_probability for choice in choices if choice])
        torch.testing.assert_close(found, expected[len(prompt) - 1 :], atol=1e-4, rtol=1e-4)


def test_a_row_draws_from_the_stream_that_it_is_given_wherever_it_stands() -> None:
    made = model(257)
    rows = list(stream(made, [[1]] * 4, spec(max_new_tokens=9)))
    (moved,) = zip(*stream(made, [[1]], spec(max_new_tokens=9), streams=[2]), strict=True)
    assert [choice.token for choice in moved if choice] == [step[2].token for step in rows if step[2]]


def test_stop_texts_without_a_tokenizer_are_refused() -> None:
    with pytest.raises(InputError, match="stop_texts need the model's tokenizer"):
        generate(model(257), [[1]], spec(stop_texts=["."]))
    with pytest.raises(ValueError, match=r"stop_texts\.0"):
        spec(stop_texts=[""])

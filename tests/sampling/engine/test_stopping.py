"""Stopping criteria: stop tokens, stop strings however they are split into tokens, and finish reasons."""

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
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.generate import generate, stream
from gptzoo.sampling.score import score
from gptzoo.sampling.text_stream import StopDecoder

TRAINING = ["abracadabra, barbara; ", "naïve café 日本\n", "the cat and the hat "] * 3


@functools.cache
def fitted(kind: str) -> Tokenizer:
    config = Reference("tokenizer").validate({"type": kind, **({"vocab_size": 300} if kind == "bpe" else {})})
    return config.build(config.component.fit(config, iter(TRAINING)))


def spec(**fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate(fields)


@functools.cache
def build_model(vocab_size: int) -> Any:
    spec = {"vocab_size": vocab_size, "context_length": 64, "d_model": 16, "n_layers": 2, "n_heads": 2}
    return gptzoo.build({**spec, "positional": "rope"}, seed=3)


def cut_at_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """Return the text before the first stop string, and whether there is one.

    The first is the one that is complete first, byte by byte; of several, the longest.
    """
    data = text.encode()
    for end in range(1, len(data) + 1):
        complete = [stop for stop in stops if data[:end].endswith(stop.encode())]
        if complete:
            return data[: end - max(len(stop.encode()) for stop in complete)].decode(), True
    return text, False


stops_of = st.lists(st.text("abré日", min_size=1, max_size=4), min_size=1, max_size=3)


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@given(text=st.text("abré日", max_size=12), stops=stops_of)
def test_text_is_decoded_up_to_the_stop_string_that_is_complete_first(kind: str, text: str, stops: list[str]) -> None:
    decoder = StopDecoder(fitted(kind), stops)
    parts = [decoder.feed(token) for token in fitted(kind).encode(text)]
    expected, stopped = cut_at_stop(text, stops)
    assert "�" not in "".join(parts)
    assert decoder.stopped == stopped
    assert "".join(parts) + decoder.flush() == expected


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@given(prompt=st.text("abré日", max_size=6), text=st.text("abré日", max_size=12), stops=stops_of)
def test_a_sequence_ends_with_the_token_that_completes_a_stop_string_after_the_prompt(
    kind: str, prompt: str, text: str, stops: list[str]
) -> None:
    tokenizer = fitted(kind)
    prompt_ids, new = ([*tokenizer.encode(part)] for part in (prompt, text))
    stopping = StoppingCriteria(spec(max_new_tokens=99, stop_texts=stops), tokenizer)
    sequences = [TokenSequence(prompt_ids + new[:n], len(prompt_ids)) for n in range(len(new) + 1)]
    stopped = [n for n, sequence in enumerate(sequences) if stopping.finish_reason(sequence) == "stop_text"]
    texts = [tokenizer.decode_bytes(new[:n]) for n in range(len(new) + 1)]
    complete = [n for n, data in enumerate(texts) if any(stop.encode() in data for stop in stops)]
    assert stopped[:1] == complete[:1]


def test_a_possible_start_of_a_stop_string_is_held_back() -> None:
    decoder = StopDecoder(fitted("byte"), ["abac"])
    assert [decoder.feed(ord(character)) for character in "xababac!"] == ["x", "", "", "", "ab", "", "", ""]
    assert decoder.flush() == ""


def test_a_stop_string_ends_only_its_sequence_and_does_not_change_earlier_tokens() -> None:
    model, tokenizer = build_model(fitted("char").vocab_size), fitted("char")
    free = generate(model, [[1]] * 8, spec(max_new_tokens=40, seed=2))
    stopped = generate(model, [[1]] * 8, spec(max_new_tokens=40, seed=2, stop_texts=["a", "t h"]), tokenizer)
    lengths = set()
    for full, row in zip(free, stopped, strict=True):
        assert row == full[: len(row)]
        assert tokenizer.decode(row).startswith(cut_at_stop(tokenizer.decode(full), ["a", "t h"])[0])
        assert cut_at_stop(tokenizer.decode(row), ["a", "t h"])[1] == (len(row) < 40)
        lengths.add(len(row))
    assert len(lengths) > 3


def test_every_sequence_has_a_finish_reason() -> None:
    model, tokenizer = build_model(257), fitted("byte")
    options = {"max_new_tokens": 30, "seed": 5, "stop_tokens": [*range(40)]}
    options["stop_texts"] = [chr(c) for c in range(60, 90)]
    reasons: list[Any] = [None] * 12
    last_tokens = [0] * 12
    for events in stream(model, [[65]] * 12, spec(**options), tokenizer):
        for index, event in enumerate(events):
            assert (event is None) == (reasons[index] is not None)
            if event is not None:
                reasons[index], last_tokens[index] = event.finish_reason, event.token
    assert {"stop_token", "stop_text"} <= set(reasons) <= {"stop_token", "stop_text", "length"}
    for reason, token in zip(reasons, last_tokens, strict=True):
        assert (reason == "stop_token") == (token < 40)
        assert reason != "stop_text" or 60 <= token < 90


def test_a_processor_can_finish_a_sequence_even_before_its_first_token() -> None:
    pytest.importorskip("llguidance")
    model, tokenizer = build_model(fitted("char").vocab_size), fitted("char")
    optional = spec(max_new_tokens=5, processors=[{"type": "regex", "pattern": "b?"}])
    ((event,),) = list(stream(model, [[1]], optional, tokenizer))[:1]
    assert event is not None
    assert event.finish_reason == "finished"
    empty = spec(max_new_tokens=5, processors=[{"type": "regex", "pattern": ""}])
    assert generate(model, [[1]], empty, tokenizer) == [[]]


def test_log_probabilities_are_those_of_the_model_before_processors() -> None:
    model = build_model(257)
    processors = [
        {"type": "banned_tokens", "ids": [3]},
        {"type": "temperature", "value": 3.0},
        {"type": "top_k", "k": 40},
    ]
    steps = list(stream(model, [[1, 2], [5, 6, 7]], spec(max_new_tokens=12, processors=processors)))
    for row, prompt in enumerate([[1, 2], [5, 6, 7]]):
        events = [step[row] for step in steps]
        tokens = [event.token for event in events if event]
        (expected,) = score(model, [prompt + tokens])
        actual = torch.tensor([event.log_probability for event in events if event])
        torch.testing.assert_close(actual, expected[len(prompt) - 1 :], atol=1e-4, rtol=1e-4)


def test_the_sample_number_determines_the_random_stream() -> None:
    model = build_model(257)
    rows = list(stream(model, [[1]] * 4, spec(max_new_tokens=9)))
    (moved,) = zip(*stream(model, [[1]], spec(max_new_tokens=9), sample_numbers=[2]), strict=True)
    assert [event.token for event in moved if event] == [step[2].token for step in rows if step[2]]


def test_stop_strings_need_a_tokenizer() -> None:
    with pytest.raises(InputError, match="stop_texts need the model's tokenizer"):
        generate(build_model(257), [[1]], spec(stop_texts=["."]))
    with pytest.raises(ValueError, match=r"stop_texts\.0"):
        spec(stop_texts=[""])

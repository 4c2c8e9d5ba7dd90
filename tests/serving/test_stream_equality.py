"""Any combination of fields gives the same texts, tokens and numbers in a stream as in a complete response."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

STOPS = st.lists(st.sampled_from(["a", "e", "é", "th", ", t", "ne,", "�", "\n"]), min_size=1, max_size=3)
FORCED = {"type": "forced_tokens", "text": "one, two café three, then é"}
PROCESSORS = st.sampled_from([[FORCED], [], [{"type": "logit_bias", "biases": {"256": 8.0}}]])
STRATEGIES = st.sampled_from(
    [None, {"type": "beams", "n_beams": 3}, {"type": "contrastive"}, {"type": "speculative", "n_ahead": 3}]
)
REQUESTS = st.fixed_dictionaries(
    {"prompt": st.sampled_from(["Once", "é", ["a", "bc"], [0xC3, 0xA9, 0xC3]]), "processors": PROCESSORS},
    optional={
        "max_tokens": st.integers(0, 30),
        "min_tokens": st.integers(0, 16),
        "n": st.integers(1, 3),
        "seed": st.integers(0, 5),
        "stop": STOPS,
        "stop_token_ids": st.lists(st.integers(0, 260), max_size=5),
        "include_stop_str_in_output": st.booleans(),
        "ignore_eos": st.booleans(),
        "echo": st.booleans(),
        "logprobs": st.integers(0, 2),
        "strategy": STRATEGIES,
    },
)


def streamed_choices(answer: httpx.Response) -> tuple[dict[int, Any], Any]:
    """Return the text, the log-probability lists and the finish reason of each choice, and the usage of all."""
    *events, done = answer.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    texts: dict[int, Any] = {}
    for chunk in chunks[:-1]:
        (choice,) = chunk["choices"]
        text, lists, reason = texts.setdefault(choice["index"], ("", None, None))
        assert reason is None, "a chunk after the end of its text"
        if choice["logprobs"] is not None:
            lists = {name: (lists or {}).get(name, []) + new for name, new in choice["logprobs"].items()}
        texts[choice["index"]] = (text + choice["text"], lists, choice["finish_reason"])
    assert chunks[-1]["choices"] == []
    return texts, chunks[-1]["usage"]


def compare_stream_and_complete_response(served: Any, request: dict[str, Any]) -> None:
    url, body = f"{served.url}/v1/completions", {"model": "tiny", "seed": 1, **request}
    complete = httpx.post(url, json=body, timeout=60)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    stream = httpx.post(url, json={**body, **options}, timeout=60)
    if complete.status_code != 200:
        assert complete.status_code == 400
        error = complete.json()
        assert stream.json() == error if stream.status_code == 400 else json.dumps(error) in stream.text
        return
    texts, usage = streamed_choices(stream)
    answer = complete.json()
    assert usage == answer["usage"]
    assert texts == {
        choice["index"]: (choice["text"], choice["logprobs"], choice["finish_reason"]) for choice in answer["choices"]
    }
    check_log_probabilities(served, body, answer)


def check_log_probabilities(served: Any, body: dict[str, Any], answer: dict[str, Any]) -> None:
    """Check that the entries are the tokens of the usage, and that the offsets point at their texts."""
    if "logprobs" not in body:
        return
    n_entries = 0
    for choice in answer["choices"]:
        lists = choice["logprobs"]
        assert len({len(entries) for entries in lists.values()}) == 1
        n_entries += len(lists["tokens"])
        assert lists["text_offset"] == sorted(lists["text_offset"])
        for token, offset in zip(lists["tokens"], lists["text_offset"], strict=True):
            rest = choice["text"][offset:]
            assert token.startswith(("bytes:", rest)) or rest.startswith(token)
    n = body.get("n", 1)
    n_echoed = answer["usage"]["prompt_tokens"] * n if body.get("echo") else 0
    assert n_entries == answer["usage"]["completion_tokens"] + n_echoed


@settings(max_examples=20, deadline=None)
@given(request=REQUESTS)
def test_a_stream_has_what_a_complete_response_has(served: Any, request: dict[str, Any]) -> None:
    compare_stream_and_complete_response(served, request)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(request=REQUESTS)
def test_hundreds_of_streams_have_what_complete_responses_have(served: Any, request: dict[str, Any]) -> None:
    compare_stream_and_complete_response(served, request)

"""Attention weights over HTTP: the values of `attention_maps`, the forms of the request, and limits."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from serving.conftest import CHAT_TEMPLATE, SPEC, Served, serving
from serving.test_isolation import fail_if
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.inspection.attention import attention_maps
from gptzoo.sampling.inference_weights import prepare_for_inference


@pytest.fixture(scope="module")
def chatting(loaded: LoadedModel) -> Iterator[Served]:
    with serving(loaded, chat_template=CHAT_TEMPLATE, rows=2, max_waiting=0) as running:
        yield running


def ask(running: Served, **body: Any) -> httpx.Response:
    return httpx.post(running.url + "/attention", json=body)


def weights_of(described: dict[str, Any]) -> np.ndarray:
    steps = np.frombuffer(base64.b64decode(described["data"]), "<i2").reshape(described["shape"])
    return steps * described["scale"]


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ({"prompt": "to bé"}, list("to bé".encode())),
        ({"prompt": [1, 2, 3], "model": "tiny"}, [1, 2, 3]),
        ({"messages": [{"role": "user", "content": "Hi"}]}, [*b"user: Hi", 256, *b"A:"]),
        (
            {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]},
            [*b"user: Hi", 256, *b"assistant: Yo", 256],
        ),
    ],
)
def test_the_weights_are_those_of_the_model(chatting: Served, body: dict[str, Any], ids: list[int]) -> None:
    answer = ask(chatting, **body)
    assert answer.status_code == 200, answer.text
    expected = attention_maps(chatting.loaded, ids)
    assert answer.json()["tokens"] == list(expected.tokens)
    (described,), (one_map,) = answer.json()["maps"], expected.maps
    assert (described["path"], described["type"], described["numbers"]) == ("blocks.0.attention", "sdpa", [0, 1])
    np.testing.assert_allclose(weights_of(described), one_map.weights.numpy(), atol=4e-5)  # half a step of 1 / 32767


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({}, "prompt: must be given unless messages are"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "Hi"}]}, "not together with them"),
        ({"prompt": ["a"]}, "prompt: should be a text or a list of token ids"),
        ({"prompt": [257]}, "outside the model's vocabulary of 257"),
        ({"prompt": "a" * 97}, "the model has 96 positions"),
        ({"prompt": "a", "layers": [0]}, "layers"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused(chatting: Served, body: dict[str, Any], part: str) -> None:
    answer = ask(chatting, **body)
    assert answer.status_code == 400
    assert part in answer.json()["error"]["message"]


def test_a_text_with_too_many_weights_is_refused_before_they_are_computed(
    serve: Any, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptzoo.serving.playground.attention.MAX_WEIGHTS", 2 * 10**2)  # two heads, ten tokens
    running = serve()
    assert ask(running, prompt="a" * 10).status_code == 200
    answer = ask(running, prompt="a" * 11)
    assert answer.status_code == 400
    assert "the text has 11 tokens, and the attention of this model is returned for at most 10" in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8"])
def test_prepared_weights_have_attention_maps_as_well(serve: Any, loaded: LoadedModel, weights: Any) -> None:
    prepared = prepare_for_inference(with_large_weights(gptzoo.build(SPEC)), weights)
    answer = ask(serve(LoadedModel(prepared, loaded.tokenizer, loaded.folder)), prompt="abc")
    expected = attention_maps(loaded, list(b"abc")).maps[0].weights.numpy()
    np.testing.assert_allclose(weights_of(answer.json()["maps"][0]), expected, atol=0.08)


def test_a_failure_is_reported_and_the_server_goes_on(serve: Any, loaded: LoadedModel) -> None:
    running = serve(fail_if(loaded, lambda tokens: (tokens == ord("~")).any()))
    expected = running.complete("Once").choices[0].text
    answer = ask(running, prompt="a~")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert running.complete("Once").choices[0].text == expected
    assert ask(running, prompt="ab").status_code == 200


def test_texts_that_are_being_generated_stay_the_same(chatting: Served) -> None:
    expected = chatting.complete("Once", max_tokens=40).choices[0].text
    pieces = []
    for chunk in chatting.complete("Once", max_tokens=40, stream=True):
        pieces.append(chunk.choices[0].text)
        if len(pieces) in (3, 6):
            assert ask(chatting, prompt="abc").status_code == 200
    assert "".join(pieces) == expected


def test_it_takes_a_place_in_the_queue_and_needs_the_key(serve: Any, loaded: LoadedModel) -> None:
    running = serve(rows=1, max_waiting=0, api_key="sesame")
    key = {"Authorization": "Bearer sesame"}
    body = {"model": "tiny", "prompt": "a", "max_tokens": 90, "stream": True}
    assert ask(running, prompt="a").status_code == 401
    held = httpx.stream("POST", running.url + "/v1/completions", json=body, headers=key)
    with running.scheduler.turns, held:  # the first request stays in its slot
        answer = httpx.post(running.url + "/attention", json={"prompt": "a"}, headers=key)
    assert answer.status_code == 429

"""What is not answered: each refusal is the error that OpenAI's client knows, and the server goes on."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import openai
import pytest


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"max_tokens": 1000}, "max_tokens", "has room for 96"),
        ({"prompt": "x" * 200}, "prompt", "more than this model has room for"),
        ({"prompt": []}, "prompt", "should be a text"),
        ({"prompt": [[1], "a"]}, "prompt", "should be a text"),
        ({"prompt": [257]}, "prompt", "257 is outside the model's vocabulary"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 3, "best_of": 2}, "best_of", "at least n"),
        ({"best_of": 2, "stream": True}, "best_of", "cannot be streamed"),
        ({"suffix": "end"}, "suffix", "should be None"),
        ({"stop": [""]}, "stop", "at least 1 character"),
        ({"extra_body": {"top_kk": 3}}, "top_kk", "no field named 'top_kk'; did you mean 'top_p'?"),
        ({"extra_body": {"processors": [{"type": "min_p"}]}}, "temperature", "processors says already"),
        ({"temperature": None, "extra_body": {"processors": ["minp"]}}, "processors", "did you mean 'min_p'?"),
        (
            {"temperature": None, "extra_body": {"strategy": {"type": "beams", "n_beams": 2}}, "n": 3},
            "strategy",
            "2 beams",
        ),
        ({"extra_body": {"strategy": {"type": "speculative"}}}, "strategy", "no draft model"),
        ({"prompt": ["a"] * 129}, "prompt", "more than the 128 texts"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(plain: Any, fields: Any, param: str, says: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        plain.complete(**{"prompt": "Once", **fields})
    assert says in caught.value.body["message"]
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_errors_have_the_code_that_clients_look_for(plain: Any) -> None:
    with pytest.raises(openai.BadRequestError) as too_long:
        plain.complete(max_tokens=1000)
    assert too_long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as unknown:
        plain.complete(model="gpt-4")
    assert unknown.value.code == "model_not_found"
    assert "this server has 'tiny'" in unknown.value.body["message"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/completions", b"{", 400),
        ("/v1/completions", b"[]", 400),
        ("/v1/completions", b"[" * 60000, 400),
        ("/v1/completions", b" " * 2**17, 413),
        ("/v1/completions", None, 405),
        ("/v1/chat/completions", b"{}", 404),
        ("/v1/models/other", None, 404),
    ],
)
def test_what_no_client_sends_gets_an_error_object_too(plain: Any, path: str, body: bytes | None, status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(plain.url + path, data=body), timeout=30)
    assert caught.value.code == status
    assert json.loads(caught.value.read())["error"].keys() == {"message", "type", "param", "code"}


def test_a_full_queue_asks_to_come_back(serve: Any) -> None:
    small = serve(rows=1, max_waiting=2)
    with small.client() as client:
        streams = [client.completions.create(model="tiny", prompt="a", max_tokens=90, stream=True) for _ in range(3)]
        with pytest.raises(openai.RateLimitError) as caught:
            small.complete(n=3)
        assert caught.value.response.headers["retry-after"]
        for stream in streams:
            stream.close()
    wait_until(lambda: small.worker.n_open == 0)
    assert small.complete().choices[0].text


def test_a_client_that_leaves_frees_its_row(serve: Any) -> None:
    small = serve(rows=1)
    with small.client() as client:
        stream = client.completions.create(model="tiny", prompt="a", max_tokens=90, stream=True, temperature=0)
        next(iter(stream))
        stream.close()
    wait_until(lambda: small.worker.n_open == 0 and small.worker.engine.n_writing == 0)


def test_a_key_is_asked_for_where_there_is_one(serve: Any) -> None:
    locked = serve(api_key="sesame")
    with pytest.raises(openai.AuthenticationError) as caught:
        locked.complete()
    assert caught.value.code == "invalid_api_key"
    with locked.client("sesame") as client:
        assert client.completions.create(model="tiny", prompt="Once").choices[0].text


def test_a_request_that_fails_on_its_way_leaves_the_others_alone(serve: Any) -> None:
    """A constraint that no token can keep is known when the text has come to it."""
    running = serve()
    chain = [{"type": "banned_tokens", "tokens": [*range(257)]}]
    with running.client() as client, pytest.raises(openai.BadRequestError):
        client.completions.create(model="tiny", prompt="Once", extra_body={"processors": chain})
    assert running.complete().choices[0].text
    wait_until(lambda: running.worker.n_open == 0)


def test_a_model_that_breaks_is_told_to_those_who_wait_and_to_those_who_come(serve: Any, broken: Any) -> None:
    running = serve(broken)
    with pytest.raises(openai.InternalServerError) as caught:
        running.complete()
    assert "the server's log" in caught.value.body["message"]
    with pytest.raises(openai.InternalServerError) as closed:
        running.complete()
    assert closed.value.status_code == 503
    with pytest.raises(urllib.error.HTTPError) as unwell:
        urllib.request.urlopen(running.url + "/health", timeout=30)
    assert unwell.value.code == 503

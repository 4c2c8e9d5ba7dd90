"""Error responses: OpenAI's client raises the right exception, and the server continues."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import openai
import pytest


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"max_tokens": 1000}, "max_tokens", "the maximum is 96 tokens"),
        ({"prompt": "x" * 200}, "prompt", "more than the maximum"),
        ({"prompt": []}, "prompt", "should be a text"),
        ({"prompt": [[1], "a"]}, "prompt", "should be a text"),
        ({"prompt": [257]}, "prompt", "257 is outside the model's vocabulary"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 3, "best_of": 2}, "best_of", "at least n"),
        ({"best_of": 2, "stream": True}, "best_of", "cannot be streamed"),
        ({"suffix": "end"}, "suffix", "should be None"),
        ({"stop": [""]}, "stop", "at least 1 character"),
        ({"extra_body": {"top_kk": 3}}, "top_kk", "no field named 'top_kk'; did you mean 'top_k'?"),
        ({"extra_body": {"processors": [{"type": "min_p"}]}}, "temperature", "cannot be combined with processors"),
        ({"temperature": None, "extra_body": {"processors": ["minp"]}}, "processors", "did you mean 'min_p'?"),
        ({"extra_body": {"top_k": -2}}, "top_k", "greater than or equal to -1"),
        ({"extra_body": {"logprobs": True}}, "logprobs", "integer"),
        (
            {"temperature": None, "extra_body": {"strategy": {"type": "beams", "n_beams": 2}}, "n": 3},
            "strategy",
            "2 beams",
        ),
        ({"extra_body": {"strategy": {"type": "speculative"}}}, "strategy", "no draft model"),
        ({"prompt": ["a"] * 129}, "prompt", "more than the 128 texts"),
    ],
)
def test_an_invalid_request_gets_a_message_and_the_name_of_the_field(
    plain: Any, fields: Any, param: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        plain.complete(**{"prompt": "Once", **fields})
    assert message in caught.value.body["message"]
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_errors_have_the_codes_of_the_openai_api(plain: Any) -> None:
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
        ("/v1/embeddings", b"{}", 404),
        ("/v1/models/other", None, 404),
    ],
)
def test_malformed_requests_get_an_error_object_too(plain: Any, path: str, body: bytes | None, status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(plain.url + path, data=body), timeout=30)
    assert caught.value.code == status
    assert json.loads(caught.value.read())["error"].keys() == {"message", "type", "param", "code"}


def test_a_wrong_method_gets_the_allowed_ones(plain: Any) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(plain.url + "/v1/completions", timeout=30)
    assert caught.value.code == 405
    assert caught.value.headers["Allow"] == "POST"


def test_a_full_queue_gives_a_rate_limit_error(serve: Any) -> None:
    small = serve(rows=1, max_waiting=2)
    with small.client() as client:
        streams = [client.completions.create(model="tiny", prompt="a", max_tokens=90, stream=True) for _ in range(3)]
        with pytest.raises(openai.RateLimitError) as caught:
            small.complete(n=3)
        assert caught.value.response.headers["retry-after"]
        for stream in streams:
            stream.close()
    wait_until(lambda: small.scheduler.n_open == 0)
    assert small.complete().choices[0].text


def test_a_client_that_disconnects_frees_its_slot(serve: Any) -> None:
    small = serve(rows=1)
    with small.client() as client:
        stream = client.completions.create(model="tiny", prompt="a", max_tokens=90, stream=True, temperature=0)
        next(iter(stream))
        stream.close()
    wait_until(lambda: small.scheduler.n_open == 0 and small.scheduler.engine.n_running == 0)


def test_a_server_with_an_api_key_requires_it(serve: Any) -> None:
    locked = serve(api_key="sesame")
    with pytest.raises(openai.AuthenticationError) as caught:
        locked.complete()
    assert caught.value.code == "invalid_api_key"
    with locked.client("sesame") as client:
        assert client.completions.create(model="tiny", prompt="Once").choices[0].text


def test_a_request_that_fails_does_not_affect_the_others(serve: Any) -> None:
    running = serve()
    chain = [{"type": "banned_tokens", "tokens": [*range(257)]}]
    with running.client() as client, pytest.raises(openai.BadRequestError):
        client.completions.create(model="tiny", prompt="Once", extra_body={"processors": chain})
    assert running.complete().choices[0].text
    wait_until(lambda: running.scheduler.n_open == 0)


def test_a_failure_of_the_model_is_reported_to_waiting_and_to_new_clients(serve: Any, broken: Any) -> None:
    running = serve(broken)
    with pytest.raises(openai.InternalServerError) as caught:
        running.complete()
    assert "See the server's log" in caught.value.body["message"]

    def is_unhealthy() -> bool:
        try:
            urllib.request.urlopen(running.url + "/health", timeout=30)
        except urllib.error.HTTPError as error:
            return error.code == 503
        return False

    wait_until(is_unhealthy)  # the model is tested after the failure
    with pytest.raises(openai.InternalServerError) as closed:
        running.complete()
    assert closed.value.status_code == 503

"""Hostile requests: each is refused by the name of the wrong field, or served; none of them disturbs the server."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import pytest
from serving.conftest import Served

GUARD_SECONDS = 60  # against hanging only
HUGE = 10**30


def request_json(**fields: Any) -> str:
    return json.dumps({"model": "tiny", "prompt": "a", "max_tokens": 3, **fields})


def chain(**processor: Any) -> str:
    return request_json(processors=[processor])


def post(running: Served, body: str | bytes) -> tuple[int, dict[str, Any]]:
    """Post a body and return the status and the JSON of the answer."""
    data = body if isinstance(body, bytes) else body.encode("utf-8")
    request = urllib.request.Request(running.url + "/v1/completions", data=data)
    try:
        with urllib.request.urlopen(request, timeout=GUARD_SECONDS) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def nested(depth: int) -> str:
    """Return a request with a JSON Schema of some depth, as text, because `json.dumps` has a limit as well."""
    schema = '{"properties":{"a":' * depth + "{}" + "}}" * depth
    return '{"model":"tiny","processors":[{"type":"json_schema","definition":' + schema + "}]}"


REFUSED = {
    "regex": (chain(type="regex", pattern="\ud800"), "processors", "lone surrogate"),
    "json_schema": (chain(type="json_schema", definition={"enum": ["\ud800"]}), "processors", "lone surrogate"),
    "key of json_schema": (
        chain(type="json_schema", definition={"properties": {"\udc80": {}}}),
        "processors",
        "processors.0.definition.properties.\\udc80: has a lone surrogate",
    ),
    "forced text": (chain(type="forced_tokens", text="\ud800"), "processors", "processors.0.text: has a lone"),
    "banned text": (chain(type="banned_tokens", texts=["\ud800"]), "processors", "lone surrogate"),
    "prompt": (request_json(prompt="a\ud800"), "prompt", "prompt: has a lone surrogate"),
    "second prompt": (request_json(prompt=["a", "\ud800"]), "prompt", "prompt.1: has a lone surrogate"),
    "stop": (request_json(stop="\ud800"), "stop", "lone surrogate"),
    "user": (request_json(user="\ud800"), "user", "lone surrogate"),
    "model": (request_json(model="\ud800"), "model", "lone surrogate"),
    "unknown field": (request_json(**{"\ud800": 1}), "\\ud800", "lone surrogate"),
    "response format": (
        request_json(response_format={"type": "json_schema", "json_schema": {"schema": {"const": "\ud800"}}}),
        "response_format",
        "lone surrogate",
    ),
    "deep schema": (nested(480), "processors", "nested too deeply"),
    "deeper schema": (nested(2500), None, "nested too deeply"),
    "huge token id of a bias": (request_json(logit_bias={str(HUGE): 1}), "logit_bias", "outside the model's vocab"),
    "unknown token id of a bias": (request_json(logit_bias={"257": 1}), "logit_bias", "token id 257 is outside"),
    "not a token id": (request_json(logit_bias={"x": 1}), "logit_bias", "valid integer"),
    "huge token id of a processor": (
        chain(type="logit_bias", biases={str(HUGE): 1.0}),
        "processors",
        "outside the model's vocabulary",
    ),
    "forced token id": (chain(type="forced_tokens", ids=[1, 300]), "processors", "token id 300 is outside"),
    "banned token id": (chain(type="banned_tokens", ids=[HUGE]), "processors", "outside the model's vocabulary"),
    "huge token id of a prompt": (request_json(prompt=[HUGE]), "prompt", "outside the model's vocabulary"),
    "a schema that cannot be built": (
        request_json(response_format={"type": "json_schema", "json_schema": {"schema": {"enum": []}}}),
        "response_format",
        "Unsatisfiable schema",
    ),
    "keys": (chain(type="json_schema", definition={"minProperties": 2}), "processors", "could repeat a key"),
    "many digits": ('{"model":"tiny","seed":' + "9" * 5000 + "}", None, "thousands of digits"),
    "lone surrogate as a key twice": ('{"\\ud800":1,"\\ud800":2}', None, "appears twice"),
    "key twice": ('{"model":"tiny","prompt":"a","max_tokens":2,"max_tokens":3}', None, "'max_tokens' appears twice"),
    "NaN": ('{"model":"tiny","prompt":"a","temperature":NaN}', None, "NaN is not valid JSON"),
    "infinite number": ('{"model":"tiny","prompt":"a","temperature":1e400}', "temperature", "finite"),
    "not UTF-8": (b'{"model":"tiny","prompt":"\xff"}', None, "byte 26 is not UTF-8"),
    "surrogate in UTF-8": (b'{"model":"tiny","prompt":"\xed\xa0\x80"}', None, "byte 26 is not UTF-8"),
    "no body": (b"", None, "is empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_body_is_refused_by_the_name_of_its_field(plain: Served, name: str) -> None:
    body, param, message = REFUSED[name]
    if "schema" in name or "regex" in name or name == "keys":
        pytest.importorskip("llguidance")
    status, answer = post(plain, body)
    assert status == 400
    assert message in answer["error"]["message"]
    assert answer["error"]["param"] == param
    assert answer["error"]["type"] == "invalid_request_error"


SERVED = {
    "a long seed": '{"model":"tiny","seed":' + "9" * 4000 + "}",
    "UTF-16": request_json().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + request_json().encode(),
    "a stop token that no model has": request_json(stop_token_ids=[HUGE]),
    "a large k": chain(type="top_k", k=HUGE),
    "a large n-gram": chain(type="no_repeat_ngram", size=HUGE),
    "a high temperature": chain(type="temperature", value=1e308),
    "no prompts' tokens": request_json(prompt=["", ""], max_tokens=0),
}


@pytest.mark.parametrize("name", SERVED)
def test_an_extreme_body_is_served(plain: Served, name: str) -> None:
    status, answer = post(plain, SERVED[name])
    assert status == 200
    assert all(choice["finish_reason"] in ("length", "stop") for choice in answer["choices"])


REGEXES = [
    "(a*)*b",
    "(x+x+)+y",
    "((a|aa)+)+",
    "(.*a.{18}){3}",
    "(a?){2000}a{2000}",
    "(.*a){20}",
    "((a{0,100}){0,100}){0,100}b",
    "(a{999}){999}",
    "[\\w\\W]{5000}",
    "(\\p{L}+|\\p{N}+|\\w+|\\W+)*z",
    "(" + "|".join("a" * n + "b" for n in range(1, 200)) + ")+",
]


@pytest.mark.parametrize("pattern", REGEXES, ids=range(len(REGEXES)))
def test_a_regular_expression_that_makes_backtracking_matchers_hang_is_served_or_refused(
    plain: Served, pattern: str
) -> None:
    pytest.importorskip("llguidance")
    text = {"type": "logit_bias", "biases": {str(ord("a")): 8.0, str(ord("x")): 8.0}}
    status, answer = post(plain, request_json(max_tokens=90, processors=[{"type": "regex", "pattern": pattern}, text]))
    if status == 400:  # llguidance has limits for the states of a grammar
        assert "too many" in answer["error"]["message"]
        assert "Simplify the grammar" in answer["error"]["message"]
    else:
        assert answer["choices"][0]["text"].count("a") + answer["choices"][0]["text"].count("x") > 2


def test_a_regular_expression_of_the_empty_text_gives_it(plain: Served) -> None:
    pytest.importorskip("llguidance")
    for pattern in ("", "$", "()"):
        status, answer = post(plain, chain(type="regex", pattern=pattern))
        assert status == 200
        assert answer["choices"][0]["text"] == ""


# ---------------------------------------------------------------------- transport

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
BODY = request_json().encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
EACH_BYTE = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
TRANSPORTS: dict[str, tuple[bytes, set[int]]] = {
    "one byte a chunk": (HEAD + CHUNKED + EACH_BYTE, {200}),
    "another content type": (HEAD + LENGTH + b"Content-Type: text/csv; charset=\xff\r\n\r\n" + BODY, {200}),
    "an encoding that the server does not read": (
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
        {400},
    ),
    "a wait for permission": (HEAD + LENGTH + b"Expect: 100-continue\r\n\r\n" + BODY, {200}),
    "no length and no body": (HEAD + b"\r\n", {400}),
    "a chunk without a length": (HEAD + CHUNKED + b"zz\r\n", {400}),
    "a negative length": (HEAD + b"Content-Length: -5\r\n\r\n", {400}),
    "two lengths": (HEAD + b"Content-Length: 5\r\n" + LENGTH + b"\r\n" + BODY, {400}),
    "an unknown method": (b"BREW /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {405}),
    "a name that is not UTF-8": (b"GET /v1/models/%ff%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", {404}),
    "not HTTP": (b"\x16\x03\x01\x00\r\n\r\n", {400}),
}


def exchange(running: Served, data: bytes) -> bytes:
    """Send bytes and return all bytes of the answer."""
    port = urllib.parse.urlsplit(running.url).port
    with socket.create_connection(("127.0.0.1", port), timeout=GUARD_SECONDS) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize("name", TRANSPORTS)
def test_a_request_in_an_unusual_transport_is_answered(plain: Served, name: str) -> None:
    data, statuses = TRANSPORTS[name]
    answer = exchange(plain, data).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert int(answer.split()[1]) in statuses
    assert post(plain, request_json())[0] == 200


def test_a_client_that_ends_amid_its_body_leaves_no_request(plain: Served) -> None:
    port = urllib.parse.urlsplit(plain.url).port
    with socket.create_connection(("127.0.0.1", port), timeout=GUARD_SECONDS) as connection:
        connection.sendall(HEAD + b"Content-Length: 5000\r\n\r\n" + BODY)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert post(plain, request_json())[0] == 200
    assert plain.scheduler.n_open == 0

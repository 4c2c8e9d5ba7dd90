"""Thousands of random requests with 16 in flight to a server that fails now and then: the answers are those alone.

GPTZOO_STRESS_REQUESTS sets the number of requests. Default: 2,000.
"""

from __future__ import annotations

import collections
import http.client
import json
import os
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from serving.chaos import BUG, NAN, ServerProcess, server_process
from serving.test_hostile_requests import REFUSED

N_REQUESTS = int(os.environ.get("GPTZOO_STRESS_REQUESTS", "2000"))
N_WARM_UP = 1000  # requests before the memory is measured first
IN_FLIGHT = 16
GUARD_SECONDS = 120  # against hanging only

PROMPTS = ["Once", "a", "The birthday of", "x y", "é😀", "0", "in the beginning " * 2, [65, 66, 67], ["one", "two"]]
OPTIONS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1.0, "seed": 1},
    {"temperature": 0.7, "seed": 2, "top_p": 0.9},
    {"seed": 3, "top_k": 5, "min_p": 0.01},
    {"seed": 4, "n": 3},
    {"seed": 5, "best_of": 3, "n": 1},
    {"seed": 6, "stop": ["e", "zz"], "max_tokens": 20},
    {"seed": 7, "repetition_penalty": 1.3, "frequency_penalty": 0.5},
    {"temperature": 0, "logit_bias": {"97": 5, "98": 4}},
    {"seed": 8, "logprobs": 2, "echo": True},
    {"strategy": {"type": "beams", "n_beams": 3}, "n": 2},
    {"strategy": {"type": "contrastive", "alpha": 0.4, "n_candidates": 3}},
    {"seed": 9, "strategy": {"type": "speculative", "n_ahead": 3}},
    {"temperature": 0, "strategy": {"type": "speculative", "n_ahead": 2}},
    {"seed": 10, "processors": [{"type": "regex", "pattern": "[a-f]{3,9}"}]},
    {"seed": 11, "processors": [{"type": "banned_tokens", "texts": ["a", "th"]}, "top_k"]},
    {"seed": 12, "response_format": {"type": "json_object"}},
    {"max_tokens": 0},
]
FAILING: list[tuple[dict[str, Any], str]] = [
    ({"prompt": f"a{NAN}"}, "have NaN"),
    ({"prompt": f"a{NAN}", "stream": True}, "have NaN"),
    ({"prompt": f"a{NAN}", "strategy": {"type": "beams"}}, "have NaN"),
    ({"prompt": f"a{NAN}", "strategy": {"type": "contrastive"}}, "have NaN"),
    ({"prompt": f"a{NAN}", "strategy": {"type": "speculative"}}, "have NaN"),
    ({"prompt": "a", "processors": [{"type": "forced_tokens", "text": f"abc{NAN}d"}]}, "have NaN"),
    ({"prompt": f"a{BUG}"}, "failed on this request"),
    ({"prompt": "a", "processors": [{"type": "forced_tokens", "text": f"abc{BUG}d"}]}, "failed on this request"),
]
RANDOM: dict[str, Any] = {"prompt": "Once", "seed": 1, "processors": ["fails_at_random"], "max_tokens": 12}


class Outcome(NamedTuple):
    """What a client received."""

    status: int
    texts: tuple[Any, ...] = ()  # (index, text, finish reason) of each choice, in order of the index
    message: str = ""


def ask(port: int, body: str | bytes, *, leave: bool = False) -> Outcome:
    """Send a request and return the outcome. With `leave`, disconnect without reading the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GUARD_SECONDS)
    try:
        connection.request("POST", "/v1/completions", body.encode() if isinstance(body, str) else body)
        if leave:
            return Outcome(0)
        response = connection.getresponse()
        data = response.read().decode("utf-8")
    finally:
        connection.close()
    if not (response.getheader("content-type") or "").startswith("text/event-stream"):
        return outcome_of(response.status, [json.loads(data)])
    return outcome_of(
        response.status, [json.loads(e.removeprefix("data: ")) for e in data.split("\n\n")[:-1] if e[6] == "{"]
    )


def outcome_of(status: int, answers: list[dict[str, Any]]) -> Outcome:
    """Join the chunks of a stream, or read the one answer."""
    texts: dict[int, str] = collections.defaultdict(str)
    reasons: dict[int, str | None] = {}
    for answer in answers:
        if "error" in answer:
            return Outcome(status, message=answer["error"]["message"])
        for choice in answer["choices"]:
            texts[choice["index"]] += choice["text"]
            reasons[choice["index"]] = choice["finish_reason"]
    return Outcome(status, tuple((index, texts[index], reasons[index]) for index in sorted(texts)))


def valid_bodies() -> list[str]:
    bodies = []
    for prompt in PROMPTS:
        for options in OPTIONS:
            for stream in (False, True):
                if not (stream and options.get("best_of")):
                    fields = {"model": "tiny", "prompt": prompt, "max_tokens": 10, "stream": stream, **options}
                    bodies.append(json.dumps(fields))
    return bodies


def check_health(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=GUARD_SECONDS)
    connection.request("GET", "/health")
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())) == (200, {"status": "ok", "open": 0})


class Client:
    """Sends random requests, and compares their outcomes with those of the same requests alone."""

    def __init__(self, server: ServerProcess, expected: dict[str, Outcome]):
        self.server, self.expected = server, expected
        self.bodies = list(expected)
        self.counts: collections.Counter[str] = collections.Counter()
        self.lock = threading.Lock()

    def send(self, number: int) -> None:
        draw = random.Random(number)
        kind = draw.choices(["valid", "invalid", "failing", "random", "leaves"], [70, 10, 8, 8, 4])[0]
        result = getattr(self, f"_send_{kind}")(draw)
        with self.lock:
            self.counts[result] += 1

    def _send_valid(self, draw: random.Random) -> str:
        body = draw.choice(self.bodies)
        outcome = ask(self.server.port, body)
        if "the model failed on this request" in outcome.message:
            return "failed without memory"  # a search, or a step that failed again when it was repeated
        assert outcome == self.expected[body]
        return "equal"

    def _send_invalid(self, draw: random.Random) -> str:
        body, _, message = REFUSED[draw.choice(list(REFUSED))]
        outcome = ask(self.server.port, body)
        assert outcome.status == 400
        assert message in outcome.message
        return "refused"

    def _send_failing(self, draw: random.Random) -> str:
        fields, message = draw.choice(FAILING)
        outcome = ask(self.server.port, json.dumps({"model": "tiny", "max_tokens": 10, **fields}))
        assert outcome.status == (200 if fields.get("stream") else 500)
        assert message in outcome.message or "the model failed on this request" in outcome.message
        return "failed"

    def _send_random(self, draw: random.Random) -> str:
        outcome = ask(self.server.port, json.dumps({"model": "tiny", **RANDOM}))
        if outcome.status == 200:
            assert outcome.texts == self.expected_of_random
            return "equal in spite of a plugin"
        assert outcome.status == 500
        assert "'fails_at_random' at new token" in outcome.message or "failed on this request" in outcome.message
        return "failed by a plugin"

    def _send_leaves(self, draw: random.Random) -> str:
        ask(self.server.port, draw.choice(self.bodies), leave=True)
        return "left"

    @property
    def expected_of_random(self) -> tuple[Any, ...]:
        return self.expected_random.texts

    expected_random: Outcome


@pytest.mark.slow
def test_every_request_is_answered_as_if_it_were_alone() -> None:
    pytest.importorskip("llguidance")
    with server_process() as server:
        expected = {body: ask(server.port, body) for body in valid_bodies()}
        client = Client(server, expected)
        client.expected_random = ask(server.port, json.dumps({"model": "tiny", **RANDOM, "processors": []}))
        server.chaos.value = 1
        memory = []
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            for start in range(0, N_REQUESTS, N_WARM_UP):
                list(pool.map(client.send, range(start, min(N_REQUESTS, start + N_WARM_UP))))
                memory.append(server.resident_bytes() if sys.platform == "linux" else 0)
        server.chaos.value = 0
        body = next(iter(expected))
        assert ask(server.port, body) == expected[body]
        check_health(server)
        assert server.process.is_alive()
    print(dict(client.counts), [n >> 20 for n in memory])
    assert client.counts.total() == N_REQUESTS
    assert client.counts["equal"] > 0.5 * N_REQUESTS
    assert client.counts["failed without memory"] < 0.05 * N_REQUESTS
    assert all(client.counts[name] for name in ("refused", "failed", "failed by a plugin", "left"))
    assert memory[-1] <= 1.05 * memory[0]

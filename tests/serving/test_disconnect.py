"""A client that disconnects frees its places in the queue at once, and its slot before the next step of the engine."""

from __future__ import annotations

import json
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from serving.conftest import SPEC
from serving.test_limits import wait_until
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel

MAX_TOKENS = 90


class Gate:
    """A model whose forward passes can be held up, and are counted."""

    def __init__(self, loaded: LoadedModel):
        model = with_large_weights(gptzoo.build(SPEC)).eval()
        self.loaded = LoadedModel(model, loaded.tokenizer, loaded.folder)
        self.n_passes = 0
        self.is_open = threading.Event()
        self.is_open.set()
        self.is_waiting = threading.Event()
        model.register_forward_pre_hook(self._hook)

    def _hook(self, module: Any, arguments: Any) -> None:
        self.n_passes += 1
        if not self.is_open.is_set():
            self.is_waiting.set()
            assert self.is_open.wait(60)
            self.is_waiting.clear()


@pytest.fixture
def gate(loaded: LoadedModel) -> Iterator[Gate]:
    gate = Gate(loaded)
    yield gate
    gate.is_open.set()


def connect(url: str, **fields: Any) -> socket.socket:
    """Send a completion request over a socket of its own, and return the socket."""
    body = json.dumps(
        {"model": "tiny", "prompt": "Once", "max_tokens": MAX_TOKENS, "temperature": 0, **fields}
    ).encode()
    address = urllib.parse.urlsplit(url)
    client = socket.create_connection((address.hostname, address.port), timeout=60)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


KINDS: dict[str, dict[str, Any]] = {
    "complete": {},
    "stream": {"stream": True},
    "many": {"prompt": ["Once", "A"], "n": 3},
    "scored": {"echo": True, "logprobs": 2},
    "contrastive": {"strategy": {"type": "contrastive"}},
    "beams": {"strategy": {"type": "beams", "n_beams": 3}},
    "streamed beams": {"strategy": {"type": "beams", "n_beams": 3}, "stream": True},
    "speculative": {"strategy": {"type": "speculative", "n_ahead": 3}, "stream": True},
    "held back": {"stream": True, "stop": "x" * 200},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_disconnects_while_its_text_is_generated(serve: Any, gate: Gate, kind: str) -> None:
    draft = gate.loaded if kind == "speculative" else None
    running = serve(gate.loaded, rows=1, max_waiting=6, draft=draft)
    scheduler = running.scheduler
    n_before = gate.n_passes
    gate.is_open.clear()
    client = connect(running.url, **KINDS[kind])
    assert gate.is_waiting.wait(60)  # the model is in the middle of a forward pass
    assert scheduler.n_open == (6 if kind == "many" else 1)
    client.close()
    wait_until(lambda: scheduler.n_open == 0)
    assert gate.is_waiting.is_set()  # the place was free before the pass ended
    gate.is_open.set()
    wait_until(lambda: not scheduler.engine.busy and not scheduler._searches and not scheduler._cancelled)
    assert running.complete("Once", max_tokens=2).usage.completion_tokens == 2
    # The text was not generated to its end.
    assert gate.n_passes - n_before < 12


def test_a_client_that_disconnects_while_it_waits_for_a_slot(serve: Any, gate: Gate) -> None:
    running = serve(gate.loaded, rows=1, max_waiting=1)
    gate.is_open.clear()
    first = connect(running.url)
    assert gate.is_waiting.wait(60)
    for fields in ({}, {"stream": True}):
        waiting = connect(running.url, **fields)
        wait_until(lambda: running.scheduler.n_open == 2)
        refused = connect(running.url)
        assert refused.recv(100).startswith(b"HTTP/1.1 429")
        refused.close()
        waiting.close()
        wait_until(lambda: running.scheduler.n_open == 1)  # so the next client gets the place
    gate.is_open.set()
    assert first.recv(100).startswith(b"HTTP/1.1 200")
    first.close()
    wait_until(lambda: running.scheduler.n_open == 0)


def test_a_client_that_disconnects_before_the_end_of_its_body(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    running = serve()
    address = urllib.parse.urlsplit(running.url)
    client = socket.create_connection((address.hostname, address.port), timeout=60)
    client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    client.close()
    assert running.complete("Once").choices[0].text
    assert running.scheduler.n_open == 0
    assert not caplog.records


def test_other_requests_get_the_same_tokens_when_a_client_disconnects(serve: Any, gate: Gate) -> None:
    running = serve(gate.loaded, rows=3)
    expected = running.complete("A", max_tokens=40).choices[0].text
    answers: list[str] = []
    gate.is_open.clear()
    leaving = [connect(running.url, stream=stream) for stream in (True, False)]
    assert gate.is_waiting.wait(60)
    staying = threading.Thread(target=lambda: answers.append(running.complete("A", max_tokens=40).choices[0].text))
    staying.start()
    wait_until(lambda: running.scheduler.n_open == 3)
    for client in leaving:
        client.close()
    wait_until(lambda: running.scheduler.n_open == 1)
    gate.is_open.set()
    staying.join(60)
    assert answers == [expected]

"""A server on loopback with a tiny model, and OpenAI's own client."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from support import loud

import gptzoo
from gptzoo.checkpoint.model_folder import Loaded
from gptzoo.data.tokenizers.tokenizer import ByteTokenizer
from gptzoo.sampling.engine.engine import Engine
from gptzoo.serving.app import make_app
from gptzoo.serving.jobs import Jobs, Limits
from gptzoo.serving.worker import Worker

SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 96, "d_model": 16, "n_layers": 1, "n_heads": 2}


@dataclass
class Served:
    """What runs, and how to talk to it."""

    url: str
    loaded: Loaded
    worker: Worker

    def __post_init__(self) -> None:
        self.openai = self.client()

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60)

    def complete(self, prompt: Any = "Once", **fields: Any) -> Any:
        given = {"model": "tiny", "prompt": prompt, "temperature": 0, **fields}
        return self.openai.completions.create(**{name: value for name, value in given.items() if value is not None})


@pytest.fixture(scope="session")
def loaded() -> Loaded:
    return Loaded(loud(gptzoo.build(SPEC)).eval(), ByteTokenizer(ByteTokenizer.Config()), Path("tiny"))


@contextlib.contextmanager
def serving(
    loaded: Loaded,
    *,
    rows: int = 3,
    max_waiting: int = 64,
    max_body: int = 2**16,
    draft: Loaded | None = None,
    api_key: str | None = None,
) -> Iterator[Served]:
    """A server of `loaded` while the block runs."""
    engine = Engine(loaded.model, loaded.tokenizer, n_rows=rows, draft=None if draft is None else draft.model)
    worker = Worker(engine, max_waiting=max_waiting)
    jobs = Jobs(loaded, Limits(max_length=engine.max_length, max_body=max_body), draft)
    app = make_app(worker, jobs, name="tiny", api_key=api_key)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", loaded, worker)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def served(loaded: Loaded) -> Iterator[Served]:
    with serving(loaded, draft=loaded) as running:
        yield running


@pytest.fixture
def serve(loaded: Loaded) -> Iterator[Callable[..., Served]]:
    """`serve(**limits)` starts a server that lives until the test ends."""
    with contextlib.ExitStack() as running:
        yield lambda model=loaded, **how: running.enter_context(serving(model, **how))


@pytest.fixture(scope="module")
def plain(loaded: Loaded) -> Iterator[Served]:
    """Without a draft model."""
    with serving(loaded) as running:
        yield running


@pytest.fixture
def broken(loaded: Loaded) -> Loaded:
    """A model that fails at its second step."""
    model = loud(gptzoo.build(SPEC)).eval()
    calls = iter(range(1000))

    def fail(module: Any, arguments: Any) -> None:
        if next(calls) > 1:
            raise RuntimeError("out of memory, for example")

    model.register_forward_pre_hook(fail)
    return Loaded(model, loaded.tokenizer, loaded.folder)

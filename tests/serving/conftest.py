"""Fixtures: a server on loopback with a tiny model, and OpenAI's client."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from starlette.types import ASGIApp
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.sampling.engine.engine import Engine
from gptzoo.serving.app import make_app
from gptzoo.serving.process.served_models import ServedModel
from gptzoo.serving.process.turns import Turns
from gptzoo.serving.request_builder import Limits, RequestBuilder
from gptzoo.serving.scheduler import Scheduler

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}A:{% endif %}{% if x is defined %}{{ x | tojson }}{% endif %}"
)
SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 96, "d_model": 16, "n_layers": 1, "n_heads": 2}


@dataclass
class Served:
    """A running server and a client."""

    url: str
    loaded: LoadedModel
    scheduler: Scheduler

    def __post_init__(self) -> None:
        self.openai = self.client()

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60)

    def chat(self, messages: Any = ({"role": "user", "content": "Hi"},), **fields: Any) -> Any:
        fields = {"model": "tiny", "messages": messages, "temperature": 0, **fields}
        return self.openai.chat.completions.create(
            **{name: value for name, value in fields.items() if value is not None}
        )

    def complete(self, prompt: Any = "Once", **fields: Any) -> Any:
        fields = {"model": "tiny", "prompt": prompt, "temperature": 0, **fields}
        return self.openai.completions.create(**{name: value for name, value in fields.items() if value is not None})


@pytest.fixture(scope="session")
def loaded() -> LoadedModel:
    return LoadedModel(
        with_large_weights(gptzoo.build(SPEC)).eval(), ByteTokenizer(ByteTokenizer.Config()), Path("tiny")
    )


@contextlib.contextmanager
def serving(
    loaded: LoadedModel,
    *,
    rows: int = 3,
    max_waiting: int = 64,
    max_body: int = 2**16,
    draft: LoadedModel | None = None,
    api_key: str | None = None,
    allowed_origins: Sequence[str] = (),
    chat_template: str | None = None,
) -> Iterator[Served]:
    """Serve `loaded` as "tiny" while the block runs."""
    model = served_model(
        "tiny", loaded, rows=rows, max_waiting=max_waiting, max_body=max_body, draft=draft, chat_template=chat_template
    )
    with listening(make_app([model], api_key=api_key, allowed_origins=allowed_origins)) as url:
        yield Served(url, loaded, model.scheduler)


def served_model(
    name: str,
    loaded: LoadedModel,
    *,
    rows: int = 3,
    max_waiting: int = 64,
    max_body: int = 2**16,
    draft: LoadedModel | None = None,
    chat_template: str | None = None,
    turns: Turns | None = None,
) -> ServedModel:
    """Return a model as an application serves it."""
    engine = Engine(loaded.model, loaded.tokenizer, n_slots=rows, draft=None if draft is None else draft.model)
    scheduler = Scheduler(engine, max_waiting=max_waiting, turns=turns)
    builder = RequestBuilder(loaded, Limits(max_length=engine.max_length, max_body=max_body), draft, chat_template)
    return ServedModel(name, scheduler, builder)


@contextlib.contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """Yield the URL of a server with an application, which runs until the end of the block."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def served(loaded: LoadedModel) -> Iterator[Served]:
    with serving(loaded, draft=loaded) as running:
        yield running


@pytest.fixture
def serve(loaded: LoadedModel) -> Iterator[Callable[..., Served]]:
    """Return a function that starts a server, which runs until the test ends."""
    with contextlib.ExitStack() as running:
        yield lambda model=loaded, **limits: running.enter_context(serving(model, **limits))


@pytest.fixture(scope="module")
def plain(loaded: LoadedModel) -> Iterator[Served]:
    """A server without a draft model."""
    with serving(loaded) as running:
        yield running


@pytest.fixture
def broken(loaded: LoadedModel) -> LoadedModel:
    """A model that fails at its second decode step."""
    model = with_large_weights(gptzoo.build(SPEC)).eval()
    calls = iter(range(1000))

    def fail(module: Any, arguments: Any) -> None:
        if next(calls) > 1:
            raise RuntimeError("out of memory, for example")

    model.register_forward_pre_hook(fail)
    return LoadedModel(model, loaded.tokenizer, loaded.folder)

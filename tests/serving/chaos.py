"""A server process whose model and processors fail now and then, for the stress test."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import uvicorn
from support import admit, with_large_weights
from torch import Tensor

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.sampling.engine.engine import Engine
from gptzoo.serving.app import make_app
from gptzoo.serving.process.served_models import ServedModel
from gptzoo.serving.request_builder import Limits, RequestBuilder
from gptzoo.serving.scheduler import Scheduler

NAN = "~"  # its row of the embedding is NaN
BUG = "`"  # the attention raises an exception for it
MEMORY_ERRORS = 1 / 400  # of the calls of the model
SPEC = {
    "vocab_size": 257,
    "context_length": 64,
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 2,
    "tie_embeddings": False,
}


class FailsAtRandom(gptzoo.LogitsProcessor):
    """Raises an exception, returns NaN, or returns a tensor of another shape for every tenth token."""

    name = "fails_at_random"

    def __call__(self, logits: Tensor, sequences: Any) -> Tensor:
        effect = random.randrange(30)
        if effect == 0:
            raise KeyError("state")
        if effect == 1:
            return logits * float("nan")
        return logits[:, :-1] if effect == 2 else logits


def build_model(seed: int, chaos: Any) -> LoadedModel:
    """Build a model in float64, so that the size of a batch does not decide between tokens."""
    model = with_large_weights(gptzoo.build(SPEC), seed).double().eval()
    with torch.no_grad():
        model.embed.weight[ord(NAN)] = float("nan")

    def fail(module: Any, arguments: Any) -> None:
        if bool((arguments[0] == ord(BUG)).any()):
            raise IndexError("a mistake in a component")
        if chaos.value and random.random() < MEMORY_ERRORS:
            raise MemoryError("no memory now")

    model.register_forward_pre_hook(fail)
    return LoadedModel(model, ByteTokenizer(ByteTokenizer.Config()), Path("tiny"))


def serve(chaos: Any, port: Any) -> None:
    """Serve a model and a draft model, and put the port into `port`. It runs in a process of its own."""
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)  # thousands of failures
    with registry.use(registry.discover("none")):
        admit(FailsAtRandom)
        loaded, draft = build_model(0, chaos), build_model(1, chaos)
        engine = Engine(loaded.model, loaded.tokenizer, n_slots=8, draft=draft.model)
        builder = RequestBuilder(loaded, Limits(max_length=engine.max_length, max_body=2**16), draft)
        app = make_app([ServedModel("tiny", Scheduler(engine, max_waiting=256), builder)])
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
        startup = server.startup

        async def start_and_tell(*arguments: Any, **options: Any) -> None:
            await startup(*arguments, **options)
            port.value = server.servers[0].sockets[0].getsockname()[1]

        server.startup = start_and_tell  # type: ignore[method-assign]
        server.run()


@dataclass
class ServerProcess:
    """A running server. While `chaos` is 1, calls of the model fail at random."""

    process: Any
    port: int
    chaos: Any

    def resident_bytes(self) -> int:
        """Return the resident memory of the process (Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * 4096


@contextlib.contextmanager
def server_process() -> Iterator[ServerProcess]:
    """Start a server in a process of its own, and end it after the block."""
    context = multiprocessing.get_context("spawn")
    chaos, port = context.Value("i", 0), context.Value("i", 0)
    process = context.Process(target=serve, args=(chaos, port), daemon=True)
    process.start()
    try:
        while not port.value:
            process.join(0.05)
            assert process.is_alive()
        yield ServerProcess(process, port.value, chaos)
    finally:
        process.terminate()
        process.join()

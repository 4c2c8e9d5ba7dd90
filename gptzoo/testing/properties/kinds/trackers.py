"""What a tracker owes: it takes whatever a row of metrics may hold, and goes on where a run goes on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from gptzoo.spec.run import RunSpec
from gptzoo.testing.subject import HOST, Subject
from gptzoo.testing.verdict import Failed
from gptzoo.training.run.run_view import RunView

N_STEPS = 6
ENDS = ("done", "paused", "interrupted", "diverged", "failed")


def logging(subject: Subject) -> None:
    """It takes every row that a run may give, and begins with nothing in a folder that has nothing of it."""
    with _folder() as folder:
        tracker = subject.config.build()
        if (held := tracker.start(_view(folder, kept=-1))) != -1:
            raise Failed(f"start returns {held!r} in the folder of a new run; -1 says that it holds no step")
        for step in range(N_STEPS + 1):
            tracker.log(_row(step))
        tracker.flush()
        tracker.finish("done")


def resuming(subject: Subject) -> None:
    """Without `finish`, as after a kill, another one goes on; what it says that it holds, it can hold."""
    with _folder() as folder:
        killed = subject.config.build()
        killed.start(_view(folder, kept=-1))
        for step in range(N_STEPS):
            killed.log(_row(step))
            killed.flush()
        again = subject.config.build()
        held = again.start(_view(folder, kept=3))
        if not isinstance(held, int) or not -1 <= held < N_STEPS:
            raise Failed(f"start returns {held!r} where rows up to step {N_STEPS - 1} were logged before; -1 for none")
        for step in range(held + 1, N_STEPS + 1):
            again.log(_row(step))
        again.flush()
        again.finish("done")


def ending(subject: Subject) -> None:
    """It can be told of every end of a run, also of one that ends at once."""
    for status in ENDS:
        with _folder() as folder:
            tracker = subject.config.build()
            tracker.start(_view(folder, kept=-1))
            tracker.finish(status)


def inert(subject: Subject) -> None:
    """It leaves torch's random numbers alone."""
    with _folder() as folder:
        before = torch.get_rng_state()
        tracker = subject.config.build()
        tracker.start(_view(folder, kept=-1))
        tracker.log(_row(0))
        tracker.finish("done")
        if not torch.equal(torch.get_rng_state(), before):
            raise Failed("torch's random numbers are others after it than before it")


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _view(folder: Path, kept: int) -> RunView:
    spec = RunSpec.model_validate({"model": HOST, "steps": N_STEPS, "name": "conformance"})
    return RunView(spec, folder, N_STEPS, kept, "cpu")


def _row(step: int) -> Mapping[str, Any]:
    """A row with all that there may be: lists, what is not finite, and names that come and go."""
    row: dict[str, Any] = {"step": step}
    if step > 0:
        row |= {"tokens": step * 64, "train/loss": 1 / step, "lr": 1e-3, "grad_norm": None}
        row |= {"model/blocks.0.ffn.load": [0.25, 0.75], "tokens_per_second": 1e5}
    if step % 2 == 0:
        row |= {"val/loss": 2.0, "val/perplexity": 7.4}
    return MappingProxyType(row)

"""Properties of trackers: every row of metrics is accepted, and a resumed run continues its log."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from gptzoo.spec.run import RunSpec
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed
from gptzoo.training.run.run_view import RunView

_N_STEPS = 6
_FINAL_STATUSES = ("done", "paused", "interrupted", "diverged", "failed")


def check_logging(subject: ComponentUnderTest) -> None:
    """Check that it accepts every row of metrics, and reports no logged step at the start of a new run."""
    with _run_folder() as folder:
        tracker = subject.config.build()
        if (last_step := tracker.start(_run_view(folder, resume_step=-1))) != -1:
            raise Failed(f"start() returns {last_step!r} for a new run; expected -1, for no logged step")
        for step in range(_N_STEPS + 1):
            tracker.log(_metrics(step))
        tracker.flush()
        tracker.finish("done")


def check_resuming(subject: ComponentUnderTest) -> None:
    """Check that after a kill another tracker continues the log, and reports a last step that was really logged."""
    with _run_folder() as folder:
        killed = subject.config.build()
        killed.start(_run_view(folder, resume_step=-1))
        for step in range(_N_STEPS):
            killed.log(_metrics(step))
            killed.flush()
        resumed = subject.config.build()
        last_step = resumed.start(_run_view(folder, resume_step=3))
        if not isinstance(last_step, int) or not -1 <= last_step < _N_STEPS:
            raise Failed(
                f"start() returns {last_step!r} after steps 0 to {_N_STEPS - 1} were logged; expected the last step "
                "that it holds, or -1 for none"
            )
        for step in range(last_step + 1, _N_STEPS + 1):
            resumed.log(_metrics(step))
        resumed.flush()
        resumed.finish("done")


def check_ending(subject: ComponentUnderTest) -> None:
    """Check that it accepts every final status of a run, also right after the start."""
    for status in _FINAL_STATUSES:
        with _run_folder() as folder:
            tracker = subject.config.build()
            tracker.start(_run_view(folder, resume_step=-1))
            tracker.finish(status)


def check_random_state(subject: ComponentUnderTest) -> None:
    """Check that it does not change the state of torch's random number generator."""
    with _run_folder() as folder:
        before = torch.get_rng_state()
        tracker = subject.config.build()
        tracker.start(_run_view(folder, resume_step=-1))
        tracker.log(_metrics(0))
        tracker.finish("done")
        if not torch.equal(torch.get_rng_state(), before):
            raise Failed("it changes the state of torch's random number generator")


@contextmanager
def _run_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _run_view(folder: Path, resume_step: int) -> RunView:
    spec = RunSpec.model_validate({"model": TINY_MODEL, "steps": _N_STEPS, "name": "conformance"})
    return RunView(spec, folder, _N_STEPS, resume_step, "cpu")


def _metrics(step: int) -> Mapping[str, Any]:
    """Return the metrics of a step, with lists, null values, and keys that only some steps have."""
    metrics: dict[str, Any] = {"step": step}
    if step > 0:
        metrics |= {"tokens": step * 64, "train/loss": 1 / step, "lr": 1e-3, "grad_norm": None}
        metrics |= {"model/blocks.0.ffn.load": [0.25, 0.75], "tokens_per_second": 1e5}
    if step % 2 == 0:
        metrics |= {"val/loss": 2.0, "val/perplexity": 7.4}
    return MappingProxyType(metrics)

"""What those who watch a run are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptzoo.errors import Diverged, Interrupted
from gptzoo.spec.run import RunSpec

Status = Literal["running", "done", "paused", "interrupted", "diverged", "failed"]


@dataclass(frozen=True)
class RunView:
    """A run as trackers and hooks see it; nothing in it can be changed."""

    spec: RunSpec
    """Resolved: every default is in it."""
    folder: Path
    """Of the run. A tracker may write below it, under its own name."""
    n_steps: int
    """The step that the run ends with."""
    kept: int
    """The last step whose metrics are kept from before; -1 where the run begins, else that of the checkpoint."""
    device: str
    """Where it computes: `cpu`, `cuda:0`."""


def status_of(error: BaseException) -> Status:
    """How a run has ended that was left by `error`."""
    if isinstance(error, Interrupted):
        return "interrupted"
    return "diverged" if isinstance(error, Diverged) else "failed"

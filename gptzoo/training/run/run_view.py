"""A run as trackers and hooks see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptzoo.errors import Diverged, Interrupted
from gptzoo.spec.run import RunSpec

Status = Literal["running", "done", "paused", "interrupted", "diverged", "failed"]


@dataclass(frozen=True)
class RunView:
    """Read-only facts about a run, for trackers and hooks."""

    spec: RunSpec
    """The resolved spec, with every default filled in."""
    folder: Path
    """The run folder. A tracker may write files or folders with its own name below it."""
    n_steps: int
    """Number of optimizer steps in the whole run."""
    resume_step: int
    """Step of the checkpoint that the run continues from; -1 for a new run. Later rows are logged again."""
    device: str
    """Device of the run, such as `cpu` or `cuda:0`."""


def status_of(error: BaseException) -> Status:
    """Return the status of a run that ended with `error`."""
    if isinstance(error, Interrupted):
        return "interrupted"
    return "diverged" if isinstance(error, Diverged) else "failed"

"""The kind `executor`: where the trials of an ablation run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gptzoo.component import Component, Config


@dataclass(frozen=True)
class Job:
    """One attempt at a trial: a command line of gptzoo, and the file that takes what it says."""

    arguments: tuple[str, ...]  # what stands after `gptzoo`
    log: Path


class Executor(Component):
    """Base of the kind: starts jobs and tells how they ended. It is used in a `with` block and owns what it started.

    It knows nothing of trials: which job to start, whether to start it again and what came of it is the runner's.
    """

    kind = "executor"

    def __init__(self, config: Config):
        self.config: Any = config

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every job that still runs: by a signal that lets it save, and then by one that does not."""

    @property
    def free_slots(self) -> int:
        """How many jobs more it would take now."""
        raise TypeError(f"{type(self).__name__} does not implement room")

    def start(self, job: Job) -> Any:
        """Begin a job; returns what the other methods know it by. Raises InputError if it cannot be begun at all."""
        raise TypeError(f"{type(self).__name__} does not implement start")

    def ended(self, handle: Any) -> int | None:
        """The exit code of a job, negative for the signal that killed it; None while it runs."""
        raise TypeError(f"{type(self).__name__} does not implement ended")

    def stop(self, handle: Any, *, kill: bool = False) -> None:
        """Ask a job to save and end (SIGTERM), or end it at once (SIGKILL). It may have ended already."""
        raise TypeError(f"{type(self).__name__} does not implement stop")

    def wait(self, handles: Sequence[Any], seconds: float) -> None:
        """Return when one of the jobs has ended, or after so many seconds."""
        raise TypeError(f"{type(self).__name__} does not implement wait")

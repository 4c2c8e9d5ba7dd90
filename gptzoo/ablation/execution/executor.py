"""The kind `executor`: components that run the trials of an ablation, locally or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from gptzoo.component import Component, Config

Handle = TypeVar("Handle")
"""The type of what `Executor.start` returns. Each executor chooses its own."""


@dataclass(frozen=True)
class Job:
    """One attempt at a trial: a gptzoo command and its log file."""

    arguments: tuple[str, ...]  # the command line after `gptzoo`, such as ("train", "spec.json", "--out", "run")
    log: Path  # stdout and stderr of the command are appended to this file


class Executor(Component, Generic[Handle]):
    """Base class of the kind: starts jobs and reports how they ended.

    The runner decides which job to start, whether to retry it, and what its exit code means; an executor only runs
    commands. The runner enters the executor as a context manager, starts a job while `free_slots` is positive, calls
    `wait` in a loop, and polls every job that runs:

        with executor:
            handle = executor.start(job)
            while executor.poll(handle) is None:
                executor.wait([handle], seconds=0.5)

    A subclass implements `free_slots`, `start`, `poll`, `stop`, `wait` and usually `__enter__` and `__exit__`. If the
    machines of a cluster share a file system with the runner, `gptzoo.run_remote_job` and `gptzoo.RemoteJob` transfer
    signals and exit codes.
    """

    kind = "executor"
    config: Config

    def __init__(self, config: Config):
        self.config = config

    def __enter__(self) -> Self:
        """Acquire resources, such as a connection to a cluster. Raises InputError if they are not available."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End every job that still runs: send SIGTERM, wait until it has saved, then send SIGKILL."""

    @property
    def free_slots(self) -> int:
        """The number of jobs that can be started now."""
        raise TypeError(f"{type(self).__name__} does not implement free_slots")

    def start(self, job: Job) -> Handle:
        """Start a job, once, and return a handle for the other methods. Raises InputError if it cannot be started."""
        raise TypeError(f"{type(self).__name__} does not implement start")

    def poll(self, handle: Handle) -> int | None:
        """Return the exit code of a job, negative for the signal that killed it, or None while the job runs.

        It may be called again after the job has ended. A job that was lost, for example with its node, returns
        `-signal.SIGKILL`.
        """
        raise TypeError(f"{type(self).__name__} does not implement poll")

    def stop(self, handle: Handle, *, kill: bool = False) -> None:
        """Send SIGTERM to a job, which then saves and ends, or SIGKILL if `kill`. Ignore a job that has ended."""
        raise TypeError(f"{type(self).__name__} does not implement stop")

    def wait(self, handles: Sequence[Handle], seconds: float) -> None:
        """Block until one of the jobs has ended, for at most `seconds`."""
        raise TypeError(f"{type(self).__name__} does not implement wait")

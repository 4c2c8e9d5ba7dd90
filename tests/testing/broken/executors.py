"""Broken executors, each with one fault that somebody has made before."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType

import gptzoo

Process = subprocess.Popen[bytes]


class _Processes(gptzoo.Executor):
    """A correct executor: up to two processes of this machine. Probe jobs run without gptzoo, to save time."""

    def __init__(self, config: gptzoo.Config):
        super().__init__(config)
        self.processes: list[Process] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()

    @property
    def free_slots(self) -> int:
        return 2 - sum(process.poll() is None for process in self.processes)

    def start(self, job: gptzoo.Job) -> Process:
        arguments = job.arguments[2:] if job.arguments[0] == "plugins" else ("-m", "gptzoo", *job.arguments)
        with open(job.log, "ab") as log:
            self.processes.append(subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log))
        return self.processes[-1]

    def poll(self, handle: Process) -> int | None:
        return handle.poll()

    def stop(self, handle: Process, *, kill: bool = False) -> None:
        handle.send_signal(signal.SIGKILL if kill else signal.SIGTERM)

    def wait(self, handles: Sequence[Process], seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            handles[0].wait(seconds)


class DropsStderr(_Processes):
    """Logs stdout, but not stderr."""

    name = "drops_stderr"

    def start(self, job: gptzoo.Job) -> Process:
        with open(job.log, "wb") as log:
            self.processes.append(
                subprocess.Popen([sys.executable, job.arguments[2]], stdout=log, stderr=subprocess.DEVNULL)
            )
        return self.processes[-1]


class RetriesFailedJobs(_Processes):
    """Starts a failed job a second time, which only the runner may do."""

    name = "retries_failed_jobs"

    def start(self, job: gptzoo.Job) -> Process:
        first = super().start(job)
        return super().start(job) if first.wait() else first


class ShellExitCodes(_Processes):
    """Reports a signal as a shell does, by 128 plus its number."""

    name = "shell_exit_codes"

    def poll(self, handle: Process) -> int | None:
        code = super().poll(handle)
        return code if code is None else code % 256 if code >= 0 else 128 - code


class AlwaysKills(_Processes):
    """Sends SIGKILL although SIGTERM was requested."""

    name = "always_kills"

    def stop(self, handle: Process, *, kill: bool = False) -> None:
        handle.kill()


class LeavesJobsRunning(_Processes):
    """Does not end its jobs at the end of the `with` block."""

    name = "leaves_jobs_running"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return


class ChangesPrecision(_Processes):
    """Adds an option to every training command."""

    name = "changes_precision"

    def start(self, job: gptzoo.Job) -> Process:
        return super().start(gptzoo.Job((*job.arguments, "--set", "precision=bf16"), job.log))

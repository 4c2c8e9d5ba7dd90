"""Jobs on the nodes of a cluster that share only a file system with the runner.

The runner and the node communicate through files next to the job's log: `NAME.signal` holds the number of a signal to
pass on to the job, and `NAME.code` its exit code. An executor for a cluster scheduler therefore has to do little more
than call `run_remote_job` on a node.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gptzoo.utils.atomic import write_text

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class RemoteJob:
    """A job that runs on another node, as the runner sees it. `log` identifies the job.

    Use it in an executor whose nodes share a file system with the runner:

        RemoteJob(job.log).clear()                           # then have a node call run_remote_job(...)
        RemoteJob(job.log).send_signal(signal.SIGTERM)
        RemoteJob(job.log).exit_code                         # None while it runs
    """

    log: Path

    def clear(self) -> None:
        """Delete the files of an earlier attempt. Call it before each start."""
        self.signal_file.unlink(missing_ok=True)
        self.exit_code_file.unlink(missing_ok=True)

    def send_signal(self, number: int) -> None:
        """Ask the node that runs the job to send it a signal."""
        write_text(self.signal_file, str(number))

    @property
    def exit_code(self) -> int | None:
        """The exit code of the job, negative for the signal that killed it; None if it has not ended."""
        try:
            return int(self.exit_code_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:  # a damaged file: the job has ended, and nobody knows how
            with open(self.log, "a", encoding="utf-8") as log:
                log.write(f"{self.exit_code_file.name}: expected an exit code. It was damaged or changed\n")
            return 1

    @property
    def signal_file(self) -> Path:
        """The file through which the runner sends a signal."""
        return self.log.with_suffix(".signal")

    @property
    def exit_code_file(self) -> Path:
        """The file to which the node writes the exit code."""
        return self.log.with_suffix(".code")


def run_remote_job(arguments: Sequence[str], log: str) -> int:
    """Run `gptzoo` with `arguments` on this node, append its output to `log`, and return its exit code.

    Signals that the runner sends with `RemoteJob.send_signal` are passed on to the process, and its exit code is
    written for `RemoteJob.exit_code`.
    """
    job = RemoteJob(Path(log))
    with open(job.log, "ab") as output:
        command = [sys.executable, "-m", "gptzoo", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        while True:
            try:
                code = process.wait(timeout=_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                _pass_on_signal(job, process)
    write_text(job.exit_code_file, str(code))
    return code


def _pass_on_signal(job: RemoteJob, process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(FileNotFoundError):
        try:
            number = int(job.signal_file.read_text(encoding="utf-8"))
        except ValueError:  # a damaged file
            number = signal.SIGTERM
        job.signal_file.unlink()
        process.send_signal(number)

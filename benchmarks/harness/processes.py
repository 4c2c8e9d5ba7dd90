"""Whole commands, as a user types them: their time from start to end, peak memory and output."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.environment import ROOT


@dataclass(frozen=True)
class Finished:
    """A command that has succeeded."""

    seconds: float
    cpu_seconds: float  # of the process and its children
    peak_bytes: int  # resident memory of the process
    output: str


def run_command(
    command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, folder: Path = ROOT
) -> Finished:
    """Run a command in a folder. Raises RuntimeError with the end of its errors if it fails."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=output,
            stderr=errors,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(map(str, command))} failed: {errors.read()[-2000:]}")
        output.seek(0)
        return Finished(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output.read())

"""Probe jobs: small jobs that an executor runs, and that leave traces in their folder.

A probe job is `gptzoo plugins --plugin FILE`. The file writes its traces and then executes an action.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gptzoo.ablation.execution.executor import Executor, Job
from gptzoo.testing.verdict import Failed

SAVED_EXIT_CODE = 4  # of gptzoo train after SIGTERM
_TIMEOUT_SECONDS = 300.0  # until a job must have started or ended; a cluster may have a queue

_WRITE_TRACES = """
import os, pathlib, signal, sys, time

traces = pathlib.Path(__file__).parent


def save(*_):
    (traces / "saved").touch()
    os._exit({exit_code})


signal.signal(signal.SIGTERM, save)
print("on stdout", flush=True)
print("on stderr", file=sys.stderr, flush=True)
heartbeats = open(traces / "heartbeats", "a")
with open(traces / "started", "a") as started:
    started.write("once ")
"""
RUN_FOREVER = """
while (traces / "started").exists():
    heartbeats.write(".")
    heartbeats.flush()
    time.sleep(0.05)
os._exit(1)
"""
IGNORE_SIGTERM = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{RUN_FOREVER}"
KILL_ITSELF = "os.kill(os.getpid(), signal.SIGKILL)"


@contextmanager
def job_folder() -> Iterator[Path]:
    """Create a temporary folder. Removing it ends the jobs that a broken executor has left running in it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def probe_job(folder: Path, action: str) -> Job:
    """Return a job that leaves traces in `folder` and then executes the Python code `action`."""
    folder.mkdir(exist_ok=True)
    file = folder / "probe job.py"
    file.write_text(_WRITE_TRACES.format(exit_code=SAVED_EXIT_CODE) + action + "\n", encoding="utf-8")
    return Job(("plugins", "--plugin", str(file)), folder / "job.log")


def run_jobs(executor: Executor[Any], jobs: Mapping[str, Job]) -> dict[str, int]:
    """Run jobs in the free slots and return their exit codes. Raises Failed unless every job runs once."""
    waiting, handles, exit_codes = list(jobs), dict[str, Any](), dict[str, int]()
    while waiting or handles:
        while waiting and executor.free_slots > 0:
            handles[waiting[0]] = executor.start(jobs[waiting[0]])
            waiting.pop(0)
        name = next(iter(handles))
        exit_codes[name] = wait_for_end(executor, handles[name], name)
        if (second := executor.poll(handles.pop(name))) != exit_codes[name]:
            raise Failed(f"for {name}, poll() returns {exit_codes[name]} and then {second}")
    for name, job in jobs.items():
        started = job.log.with_name("started")
        n_runs = started.read_text(encoding="utf-8").count("once") if started.exists() else 0
        if n_runs != 1:
            raise Failed(f"{name} was run {n_runs} times; expected once; its log: {read_log(job)!r}")
    return exit_codes


def wait_for_end(executor: Executor[Any], handle: object, name: str) -> int:
    """Wait until a job has ended and return its exit code. Raises Failed after a timeout."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while (exit_code := executor.poll(handle)) is None:
        if time.monotonic() > deadline:
            raise Failed(f"poll() still returns None for {name} after {_TIMEOUT_SECONDS:g} s")
        executor.wait([handle], 0.5)
    return exit_code


def wait_for_start(executor: Executor[Any], handle: object, folder: Path) -> None:
    """Wait until a job that runs forever has started. Raises Failed if it has ended, or after a timeout."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not (folder / "started").exists():
        if (exit_code := executor.poll(handle)) is not None:
            raise Failed(f"poll() returns {exit_code} for a job that has not started")
        if time.monotonic() > deadline:
            raise Failed(f"a job has not started after {_TIMEOUT_SECONDS:g} s")
        executor.wait([handle], 0.1)
    if (exit_code := executor.poll(handle)) is not None:
        raise Failed(f"poll() returns {exit_code} for a job that still runs")


def is_running(folder: Path) -> bool:
    """Return True if the job with traces in `folder` is still running one second from now."""
    time.sleep(1.0)  # a cluster passes signals on through files, which takes a moment
    before = (folder / "heartbeats").stat().st_size
    time.sleep(0.5)
    return (folder / "heartbeats").stat().st_size > before


def read_log(job: Job) -> str:
    """Return the log of a job, or an empty string if it has none."""
    return job.log.read_text(encoding="utf-8", errors="replace").strip() if job.log.exists() else ""

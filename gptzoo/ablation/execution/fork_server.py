"""A process that imports what a job needs and forks itself for each job, so that jobs start at once.

    python -m gptzoo.ablation.execution.fork_server

It reads requests from stdin, one JSON object per line:

    {"start": 7, "arguments": […], "log": "…", "threads": 1, "cores": [0], "environment": {…}}
    {"stop": 7, "signal": 15}

and writes messages to stdout:

    {"started": 7, "pid": 4711}
    {"ended": 7, "code": 0}

When stdin is closed, because the client has ended, the server asks the jobs to save and end, and then exits.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
import time
from typing import Any, NoReturn

from gptzoo import registry

_PRELOADED = (  # jobs inherit these imports; training imports those of the second line only when it needs them
    *("torch", "gptzoo.cli", "gptzoo.training.trainer", "gptzoo.training.final_outputs"),
    *("torch._dynamo", "numpy.ma", "rich.live", "rich.progress"),
)
_GRACE_SECONDS = 30.0  # time for a job to finish its step and save after SIGTERM


def main() -> None:
    """Serve requests until stdin is closed."""
    for module in _PRELOADED:
        importlib.import_module(module)
    registry.current()
    gc.freeze()  # a garbage collection in a job would otherwise touch, and so copy, all of these pages
    wake_read, wake_write = _wake_select_on_signals()
    jobs: dict[int, int] = {}  # number of the job, by process id
    unread = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(jobs)
        if 0 in ready:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                _handle_request(json.loads(line), jobs, inherited=(wake_read, wake_write))
    _end_all(jobs)


def _wake_select_on_signals() -> tuple[int, int]:
    """Open a pipe that becomes readable when a child ends. Ignore Ctrl-C: it is for the client."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler the wakeup descriptor is not written to
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return read, write


def _handle_request(request: dict[str, Any], jobs: dict[int, int], inherited: tuple[int, ...]) -> None:
    if "stop" in request:
        for process in [process for process, number in jobs.items() if number == request["stop"]]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, request["signal"])
        return
    process = os.fork()
    if process == 0:
        for descriptor in inherited:
            os.close(descriptor)
        _run_job(request)
    # Both processes set the group: it must exist before either process continues.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(process, process)
    jobs[process] = request["start"]
    _send({"started": request["start"], "pid": process})


def _run_job(request: dict[str, Any]) -> NoReturn:
    """Run a gptzoo command in the forked process, and exit with its code."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)
    devnull = os.open(os.devnull, os.O_RDONLY)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(devnull, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(request["environment"])
    if request["cores"]:
        os.sched_setaffinity(0, request["cores"])
    import torch

    torch.set_num_threads(request["threads"])
    code = 1
    try:
        sys.argv = ["gptzoo", *request["arguments"]]
        runpy.run_module("gptzoo", run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # sys.exit would run the clean-up handlers of the server in the job


def _reap(jobs: dict[int, int]) -> None:
    """Report the jobs that have ended."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            return
        _send({"ended": jobs.pop(process), "code": os.waitstatus_to_exitcode(status)})


def _end_all(jobs: dict[int, int]) -> None:
    """Send SIGTERM to all jobs, and SIGKILL to those that still run after the grace period."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in jobs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, number)
        deadline = time.monotonic() + _GRACE_SECONDS
        while jobs and time.monotonic() < deadline:
            time.sleep(0.02)
            _reap(jobs)


def _send(message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the client has ended; stdin is about to report that
        os.write(1, (json.dumps(message) + "\n").encode())


if __name__ == "__main__":
    main()

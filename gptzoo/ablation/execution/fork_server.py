"""A process that has imported what a job needs and forks itself for each, so that a job starts at once.

    python -m gptzoo.ablation.execution.fork_server

It reads one JSON object a line from stdin: {"start": 7, "arguments": [...], "log": "...", "threads": 1, "cores": [0],
"environment": {...}} or {"stop": 7, "signal": 15}; and writes {"started": 7, "pid": …} and {"ended": 7, "code": …}.
When stdin ends, because whoever asked is gone, it asks the jobs that run to save and end.
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
from typing import Any

from gptzoo import registry

_HEAVY = (  # what each job gets for nothing; the last four are what training imports only when it comes to it
    *("torch", "gptzoo.cli", "gptzoo.training.trainer"),
    *("torch._dynamo", "numpy.ma", "rich.live", "rich.progress"),
)
_PATIENCE = 30.0  # seconds that a job has to finish its step and save


def main() -> None:
    """Serve until stdin ends."""
    for heavy in _HEAVY:
        importlib.import_module(heavy)
    registry.current()
    gc.freeze()  # a job that collects its garbage need not look through all of this, and copy it
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # so that a child that ends wakes select
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner, which then tells us
    jobs: dict[int, int] = {}  # number of the job by process
    unread = b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            _reap(jobs)
        if 0 in ready:
            read = os.read(0, 65536)
            if not read:
                break
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                _serve(json.loads(line), jobs, inherited=(wake, woken))
    _end(jobs)


def _serve(request: dict[str, Any], jobs: dict[int, int], inherited: tuple[int, ...]) -> None:
    if "stop" in request:
        for process in [process for process, number in jobs.items() if number == request["stop"]]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, request["signal"])
        return
    process = os.fork()
    if process == 0:
        for descriptor in inherited:
            os.close(descriptor)
        _become(request)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpgid(process, process)  # the child does too: whoever is first, it is done when we go on
    jobs[process] = request["start"]
    _say({"started": request["start"], "pid": process})


def _become(request: dict[str, Any]) -> None:
    """Be the job; does not return."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(nothing, 0)
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
        os._exit(code)  # not sys.exit: what the parent would clean up at its end is not ours


def _reap(jobs: dict[int, int]) -> None:
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            return
        _say({"ended": jobs.pop(process), "code": os.waitstatus_to_exitcode(status)})


def _end(jobs: dict[int, int]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in jobs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, number)
        until = time.monotonic() + _PATIENCE
        while jobs and time.monotonic() < until:
            time.sleep(0.02)
            _reap(jobs)


def _say(answer: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked is gone; stdin will say so
        os.write(1, (json.dumps(answer) + "\n").encode())


if __name__ == "__main__":
    main()

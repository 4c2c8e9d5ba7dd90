"""The executor `local`: trials run as processes on this machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from pydantic import PositiveInt

from gptzoo.ablation.execution.executor import Executor, Job
from gptzoo.component import Config


@dataclass
class LocalJob:
    """A job that was started, and the slot that it occupies."""

    number: int
    slot: int
    exit_code: int | None = None


@dataclass
class _ForkServer:
    """The fork server process, and a queue of its messages that a thread fills. None marks the end of the messages."""

    process: subprocess.Popen[bytes]
    messages: queue.SimpleQueue[dict[str, Any] | None] = field(default_factory=queue.SimpleQueue)

    def send(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the server has died; the end of its messages reports that
            self.process.stdin.write((json.dumps(request) + "\n").encode())
            self.process.stdin.flush()

    def read_messages(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.messages.put(json.loads(line))
        self.messages.put(None)

    def shut_down(self) -> None:
        """Close the server's stdin, which makes it end all jobs and exit, and wait for that."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


class LocalExecutor(Executor[LocalJob]):
    """Local executor: trials are processes on this machine, each with its own cores and GPU.

    The processes are forked from a server that has imported torch, so that a trial starts at once.
    """

    name = "local"

    class Config(Executor.Config):
        n_workers: PositiveInt | None = None
        """Number of trials to run at the same time. Default: one per GPU; without GPUs, one per `threads` CPU cores."""
        threads: PositiveInt = 1
        """CPU cores per trial. It affects floating-point results on a CPU, so keep it constant within an ablation."""

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        self.cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.gpus = _visible_gpus()
        n_cores = len(self.cores) or os.cpu_count() or 1
        self.n_workers = config.n_workers or len(self.gpus) or max(1, n_cores // config.threads)
        self.free = list(range(self.n_workers))
        self.running: dict[int, LocalJob] = {}
        self.n_started = 0
        self.fork_server: _ForkServer | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.fork_server is not None:
            self.fork_server.shut_down()
            self.fork_server = None

    @property
    def free_slots(self) -> int:
        return len(self.free)

    def start(self, job: Job) -> LocalJob:
        if self.fork_server is None:
            self.fork_server = _start_fork_server()
        self.n_started += 1
        started = LocalJob(self.n_started, self.free.pop(0))
        self.running[started.number] = started
        self.fork_server.send(
            {
                "start": started.number,
                "arguments": list(job.arguments),
                "log": str(job.log),
                "threads": self.config.threads,
                "cores": self._cores_of(started.slot),
                "environment": self._environment_of(started.slot),
            }
        )
        return started

    def poll(self, handle: LocalJob) -> int | None:
        self._process_messages(timeout=0.0)
        return handle.exit_code

    def stop(self, handle: LocalJob, *, kill: bool = False) -> None:
        if handle.exit_code is None and self.fork_server is not None:
            self.fork_server.send({"stop": handle.number, "signal": int(signal.SIGKILL if kill else signal.SIGTERM)})

    def wait(self, handles: Sequence[LocalJob], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while all(handle.exit_code is None for handle in handles) and (left := deadline - time.monotonic()) > 0:
            self._process_messages(timeout=left)

    def _process_messages(self, timeout: float) -> None:
        """Process all messages of the fork server that have arrived; wait up to `timeout` seconds for the first."""
        if self.fork_server is None:
            return
        messages = self.fork_server.messages
        try:
            message = messages.get(timeout=timeout) if timeout else messages.get_nowait()
            while message is not None:
                if "ended" in message:
                    self._free_slot(message["ended"], message["code"])
                message = messages.get_nowait()
        except queue.Empty:
            return
        # The server has died. Its jobs may live on, but only the locks on their folders can tell.
        self.fork_server.shut_down()
        self.fork_server = None
        for number in list(self.running):
            self._free_slot(number, -int(signal.SIGKILL))

    def _free_slot(self, number: int, exit_code: int) -> None:
        ended = self.running.pop(number)
        ended.exit_code = exit_code
        self.free = sorted([*self.free, ended.slot])

    def _cores_of(self, slot: int) -> list[int]:
        """Return the cores reserved for a slot, or none if there are too few cores to reserve any."""
        n = self.config.threads
        return self.cores[slot * n : (slot + 1) * n] if self.n_workers * n <= len(self.cores) else []

    def _environment_of(self, slot: int) -> dict[str, str]:
        threads = {"OMP_NUM_THREADS": str(self.config.threads)}
        return threads | ({"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if self.gpus else {})


def _start_fork_server() -> _ForkServer:
    process = subprocess.Popen(
        [sys.executable, "-m", "gptzoo.ablation.execution.fork_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal is for the runner alone
        # A plugin may ask for CUDA while it is imported. Asking the driver would initialise CUDA in the server, and no
        # fork of it could use a GPU then. With this setting torch asks NVML, which does not.
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
    )
    server = _ForkServer(process)
    threading.Thread(target=server.read_messages, daemon=True).start()
    return server


def _visible_gpus() -> list[str]:
    """Return the GPUs of this process, as CUDA_VISIBLE_DEVICES names them, without initialising CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = (name.strip() for name in visible.split(","))
        return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))  # CUDA ignores names after -1
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]

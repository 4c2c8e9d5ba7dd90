"""The executor `local`: processes on this machine."""

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
class Running:
    """A job that was started, and its place: the cores and devices that are its own."""

    number: int
    place: int
    code: int | None = None


@dataclass
class _Forge:
    """The process that forks the jobs, and the thread that hears its answers."""

    process: subprocess.Popen[bytes]
    answers: queue.SimpleQueue[dict[str, Any] | None] = field(default_factory=queue.SimpleQueue)

    def ask(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died, which the end of its answers tells
            self.process.stdin.write((json.dumps(request) + "\n").encode())
            self.process.stdin.flush()

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(json.loads(line))
        self.answers.put(None)

    def end(self) -> None:
        """Tell it that there is no more to do, upon which it ends what still runs, and wait for it."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


class LocalExecutor(Executor):
    """Processes on this machine, forked from one that has torch imported, each with cores and GPUs of its own."""

    name = "local"

    class Config(Executor.Config):
        n_workers: PositiveInt | None = None
        """Trials at a time. Left out: as many as there are GPUs, or else one for each `threads` cores."""
        threads: PositiveInt = 1
        """Cores of each trial. It decides the bits of a run on a CPU, so keep it for an ablation."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.gpus = _gpus()
        n_cores = len(self.cores) or os.cpu_count() or 1
        self.n_workers = self.config.n_workers or len(self.gpus) or max(1, n_cores // self.config.threads)
        self.free = list(range(self.n_workers))
        self.running: dict[int, Running] = {}
        self.count = 0
        self.forge: _Forge | None = None

    @property
    def free_slots(self) -> int:
        return len(self.free)

    def start(self, job: Job) -> Running:
        forge = self._forge()
        self.count += 1
        running = Running(self.count, self.free.pop(0))
        self.running[running.number] = running
        forge.ask(
            {
                "start": running.number,
                "arguments": list(job.arguments),
                "log": str(job.log),
                "threads": self.config.threads,
                "cores": self._cores_of(running.place),
                "environment": self._environment_of(running.place),
            }
        )
        return running

    def ended(self, handle: Running) -> int | None:
        self._hear(0.0)
        return handle.code

    def stop(self, handle: Running, *, kill: bool = False) -> None:
        if handle.code is None and self.forge is not None:
            self.forge.ask({"stop": handle.number, "signal": int(signal.SIGKILL if kill else signal.SIGTERM)})

    def wait(self, handles: Sequence[Running], seconds: float) -> None:
        until = time.monotonic() + seconds
        while all(handle.code is None for handle in handles) and (left := until - time.monotonic()) > 0:
            self._hear(left)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.forge is not None:
            self.forge.end()
            self.forge = None

    def _forge(self) -> _Forge:
        if self.forge is None:
            process = subprocess.Popen(
                [sys.executable, "-m", "gptzoo.ablation.execution.fork_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in a terminal is for the runner alone
                # A plugin may ask for CUDA while it is imported. To ask the driver would start CUDA in the process that
                # forks, and no fork of it could use a GPU; NVML can be asked.
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
            )
            self.forge = _Forge(process)
            threading.Thread(target=self.forge.listen, daemon=True).start()
        return self.forge

    def _hear(self, seconds: float) -> None:
        """Take in what the forge says, waiting for the first of it."""
        if self.forge is None:
            return
        try:
            while True:
                answer = self.forge.answers.get(timeout=seconds) if seconds else self.forge.answers.get_nowait()
                seconds = 0.0
                if answer is None:  # it died, and its jobs are nobody's: they end by themselves or are found by lock
                    self.forge.end()
                    self.forge = None
                    for number in list(self.running):
                        self._settle(number, -int(signal.SIGKILL))
                    return
                if "ended" in answer:
                    self._settle(answer["ended"], answer["code"])
        except queue.Empty:
            return

    def _settle(self, number: int, code: int) -> None:
        running = self.running.pop(number)
        running.code = code
        self.free = sorted([*self.free, running.place])

    def _cores_of(self, place: int) -> list[int]:
        """Cores that no other trial has, if there are enough for all."""
        each = self.config.threads
        return self.cores[place * each : (place + 1) * each] if self.n_workers * each <= len(self.cores) else []

    def _environment_of(self, place: int) -> dict[str, str]:
        threads = {"OMP_NUM_THREADS": str(self.config.threads)}
        return threads | ({"CUDA_VISIBLE_DEVICES": self.gpus[place % len(self.gpus)]} if self.gpus else {})


def _gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes, without starting CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = (name.strip() for name in visible.split(","))
        return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))  # as CUDA itself reads it
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]

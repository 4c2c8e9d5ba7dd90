"""Each trial a Ray task; Ray decides where it runs, the runner what runs."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

import gptzoo
from gptzoo.ablation.execution import remote


@dataclass(frozen=True)
class Task:
    """A trial that was handed to Ray."""

    reference: Any
    log: Path


class RayExecutor(gptzoo.Executor):
    """Trials on the nodes of a Ray cluster, which share a file system with the runner."""

    name = "ray"

    class Config(gptzoo.Executor.Config):
        address: str | None = None
        """Of the cluster, such as `auto` or `ray://head:10001`; left out, one of this machine alone is started."""
        cpus: PositiveFloat = 1.0
        """Cores of each trial. It has as many threads, which decide the bits of a run on a CPU."""
        gpus: NonNegativeFloat = 0.0
        """GPUs of each trial; 0.5 lets two share one."""
        n_workers: PositiveInt | None = None
        """Trials at a time; left out, as many as the cluster has cores and GPUs for."""

    def __enter__(self) -> RayExecutor:
        import ray

        self.ray = ray
        self.ours = not ray.is_initialized()
        if self.ours:
            try:
                ray.init(address=self.config.address, log_to_driver=False, include_dashboard=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise gptzoo.InputError(f"executor 'ray': no cluster at {self.config.address!r}: {error}") from None
        resources = ray.cluster_resources()
        fits = resources.get("CPU", 0.0) / self.config.cpus
        if self.config.gpus:
            fits = min(fits, resources.get("GPU", 0.0) / self.config.gpus)
        if fits < 1:
            if self.ours:
                ray.shutdown()
            wanted = f"{self.config.cpus:g} CPUs" + (f" and {self.config.gpus:g} GPUs" if self.config.gpus else "")
            raise gptzoo.InputError(f"executor 'ray': the cluster has no room for one trial, which wants {wanted}")
        self.n_workers = self.config.n_workers or int(fits)
        self.running: list[Task] = []
        threads = {"env_vars": {"OMP_NUM_THREADS": str(max(1, int(self.config.cpus)))}}
        options = {"num_cpus": self.config.cpus, "num_gpus": self.config.gpus, "max_retries": 0}
        self.work = ray.remote(remote.work).options(runtime_env=threads, **options)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self.running:
            self.stop(task)
        if self.running:
            self.ray.wait([task.reference for task in self.running], num_returns=len(self.running), timeout=30)
        if self.ours:
            self.ray.shutdown()

    @property
    def free_slots(self) -> int:
        self.running = [task for task in self.running if self.ended(task) is None]
        return self.n_workers - len(self.running)

    def start(self, job: gptzoo.Job) -> Task:
        remote.renew(job.log)
        task = Task(self.work.remote(job.arguments, str(job.log)), job.log)
        self.running.append(task)
        return task

    def ended(self, handle: Task) -> int | None:
        ready, _ = self.ray.wait([handle.reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self.ray.get(handle.reference))
        except self.ray.exceptions.RayError:  # the worker, or its node, is gone
            return -int(signal.SIGKILL)

    def stop(self, handle: Task, *, kill: bool = False) -> None:
        remote.send(handle.log, signal.SIGKILL if kill else signal.SIGTERM)

    def wait(self, handles: Sequence[Task], seconds: float) -> None:
        self.ray.wait([handle.reference for handle in handles], timeout=seconds)

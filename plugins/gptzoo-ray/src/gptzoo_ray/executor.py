"""The executor `ray`: each trial is a Ray task."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

import gptzoo


@dataclass(frozen=True)
class Task:
    """A trial that was submitted to Ray."""

    reference: Any  # the ray.ObjectRef of its exit code
    log: Path


class RayExecutor(gptzoo.Executor[Task]):
    """Ray executor: trials are tasks on a Ray cluster whose nodes share a file system with this machine."""

    name = "ray"

    class Config(gptzoo.Executor.Config):
        address: str | None = None
        """Address of the Ray cluster, such as `auto` or `ray://head:10001`. Default: start a local cluster."""
        cpus: PositiveFloat = 1.0
        """CPU cores and threads per trial. It affects floating-point results on a CPU."""
        gpus: NonNegativeFloat = 0.0
        """GPUs per trial. With 0.5, two trials share a GPU."""
        n_workers: PositiveInt | None = None
        """Number of trials to run at the same time. Default: as many as the cluster has cores and GPUs for."""

    config: Config

    def __enter__(self) -> Self:
        import ray

        self.ray = ray
        self.owns_connection = not ray.is_initialized()
        if self.owns_connection:
            try:
                ray.init(address=self.config.address, log_to_driver=False, include_dashboard=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise gptzoo.InputError(
                    f"executor 'ray': cannot connect to a cluster at {self.config.address!r}: {error}"
                ) from None
        n_fitting = self._n_fitting()
        if n_fitting < 1:
            if self.owns_connection:
                ray.shutdown()
            needed = f"{self.config.cpus:g} CPUs" + (f" and {self.config.gpus:g} GPUs" if self.config.gpus else "")
            raise gptzoo.InputError(f"executor 'ray': the cluster is too small for one trial, which needs {needed}")
        self.n_workers = self.config.n_workers or int(n_fitting)
        self.running: list[Task] = []
        threads = {"env_vars": {"OMP_NUM_THREADS": str(max(1, int(self.config.cpus)))}}
        options = {"num_cpus": self.config.cpus, "num_gpus": self.config.gpus, "max_retries": 0}
        self.run_on_node = ray.remote(gptzoo.run_remote_job).options(runtime_env=threads, **options)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self.running:
            self.stop(task)
        if self.running:
            self.ray.wait([task.reference for task in self.running], num_returns=len(self.running), timeout=30)
        if self.owns_connection:
            self.ray.shutdown()

    def _n_fitting(self) -> float:
        """Return how many trials the whole cluster has cores and GPUs for."""
        resources = self.ray.cluster_resources()
        n_by_cpus: float = resources.get("CPU", 0.0) / self.config.cpus
        return min(n_by_cpus, resources.get("GPU", 0.0) / self.config.gpus) if self.config.gpus else n_by_cpus

    @property
    def free_slots(self) -> int:
        self.running = [task for task in self.running if self.poll(task) is None]
        return self.n_workers - len(self.running)

    def start(self, job: gptzoo.Job) -> Task:
        gptzoo.RemoteJob(job.log).clear()
        task = Task(self.run_on_node.remote(job.arguments, str(job.log)), job.log)
        self.running.append(task)
        return task

    def poll(self, handle: Task) -> int | None:
        ready, _ = self.ray.wait([handle.reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self.ray.get(handle.reference))
        except self.ray.exceptions.RayError:  # the worker, or its node, is gone
            return -int(signal.SIGKILL)

    def stop(self, handle: Task, *, kill: bool = False) -> None:
        gptzoo.RemoteJob(handle.log).send_signal(signal.SIGKILL if kill else signal.SIGTERM)

    def wait(self, handles: Sequence[Task], seconds: float) -> None:
        self.ray.wait([handle.reference for handle in handles], timeout=seconds)

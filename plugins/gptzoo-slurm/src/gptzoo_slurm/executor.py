"""Each trial a job of Slurm, submitted by submitit."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

import gptzoo
from gptzoo.ablation.execution import remote


@dataclass(frozen=True)
class Submitted:
    """A trial that was handed to Slurm."""

    job: Any
    log: Path


class SlurmExecutor(gptzoo.Executor):
    """Trials as Slurm jobs, on nodes that share a file system with the runner.

    A job that nears its time limit is sent SIGUSR2 by Slurm: the trial saves and ends, and the runner submits it again.
    """

    name = "slurm"

    class Config(gptzoo.Executor.Config):
        cluster: Literal["slurm", "local"] = "slurm"
        """`local` runs the jobs as processes of this machine: to try things where there is no Slurm."""
        n_jobs: PositiveInt = 64
        """Jobs in the queue at a time."""
        timeout_min: PositiveInt = 240
        """Time limit of each job, in minutes."""
        cpus: PositiveInt = 1
        """Cores of each trial. It has as many threads, which decide the bits of a run on a CPU."""
        gpus: NonNegativeInt = 0
        """GPUs of each trial."""
        memory_gb: PositiveFloat | None = None
        """Memory of each trial; left out, what Slurm gives."""
        partition: str | None = None
        """Left out, Slurm's default."""
        extra: dict[str, str | int] = Field(default_factory=dict)
        """More options of sbatch by their long names, such as {"account": "me", "qos": "low"}."""

    def __enter__(self) -> SlurmExecutor:
        import submitit

        self.submitit = submitit
        self.running: list[Submitted] = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for one in self.running:
            if self.ended(one) is None:
                self.stop(one)
        until = time.monotonic() + 30
        while time.monotonic() < until and any(self.ended(one) is None for one in self.running):
            time.sleep(0.2)
        for one in self.running:
            if self.ended(one) is None:
                self.stop(one, kill=True)

    @property
    def free_slots(self) -> int:
        self.running = [one for one in self.running if self.ended(one) is None]
        return self.config.n_jobs - len(self.running)

    def start(self, job: gptzoo.Job) -> Submitted:
        remote.renew(job.log)
        executor = self.submitit.AutoExecutor(folder=job.log.parent / "slurm", cluster=self.config.cluster)
        executor.update_parameters(**self.parameters(job.log.parent.name))
        submitted = Submitted(executor.submit(remote.work, job.arguments, str(job.log)), job.log)
        self.running.append(submitted)
        return submitted

    def parameters(self, name: str) -> dict[str, Any]:
        """What submitit is told of a job."""
        config = self.config
        asked: dict[str, Any] = {
            "name": f"gptzoo-{name}",
            "timeout_min": config.timeout_min,
            "cpus_per_task": config.cpus,
            "gpus_per_node": config.gpus or None,
            "mem_gb": config.memory_gb,
            "slurm_partition": config.partition,
            "slurm_additional_parameters": config.extra or None,
            "slurm_setup": [f"export OMP_NUM_THREADS={config.cpus}"],
        }
        return {name: value for name, value in asked.items() if value is not None}

    def ended(self, handle: Submitted) -> int | None:
        # The exit code is read from its file: submitit's own results are pickles, and need not be trusted for a number.
        if (code := remote.code_of(handle.log)) is not None:
            return code
        if not handle.job.done():
            return None
        code = remote.code_of(handle.log)  # it may have been written in between
        return -int(signal.SIGKILL) if code is None else code

    def stop(self, handle: Submitted, *, kill: bool = False) -> None:
        if kill and self.config.cluster == "slurm":
            handle.job.cancel()  # which ends it in the queue, too
        else:  # to cancel a job of submitit's own ends what watches over the job, and not the job
            remote.send(handle.log, signal.SIGKILL if kill else signal.SIGTERM)

    def wait(self, handles: Sequence[Submitted], seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and all(remote.code_of(handle.log) is None for handle in handles):
            time.sleep(0.1)

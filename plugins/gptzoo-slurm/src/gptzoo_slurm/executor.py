"""The executor `slurm`: each trial is a Slurm job, submitted with submitit."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

import gptzoo

_GRACE_SECONDS = 30.0  # time for the jobs to save after SIGTERM, before they are killed


@dataclass(frozen=True)
class SubmittedJob:
    """A trial that was submitted to Slurm."""

    job: Any  # submitit.Job
    log: Path


class SlurmExecutor(gptzoo.Executor[SubmittedJob]):
    """Slurm executor: trials are Slurm jobs on nodes that share a file system with this machine.

    Slurm sends SIGUSR2 to a job that approaches its time limit. The trial then saves and ends, and the runner submits
    it again.
    """

    name = "slurm"

    class Config(gptzoo.Executor.Config):
        cluster: Literal["slurm", "local"] = "slurm"
        """Target of the jobs: `slurm`, or `local` to run them as processes on this machine, for testing."""
        n_jobs: PositiveInt = 64
        """Maximum number of jobs in the queue at the same time."""
        timeout_min: PositiveInt = 240
        """Time limit of each job, in minutes."""
        cpus: PositiveInt = 1
        """CPU cores and threads per trial. It affects floating-point results on a CPU."""
        gpus: NonNegativeInt = 0
        """GPUs per trial."""
        memory_gb: PositiveFloat | None = None
        """Memory per trial, in GB. Default: Slurm's default."""
        partition: str | None = None
        """Slurm partition. Default: Slurm's default partition."""
        extra: dict[str, str | int] = Field(default_factory=dict)
        """Additional sbatch options by their long names, such as {"account": "me", "qos": "low"}."""

    config: Config

    def __enter__(self) -> Self:
        import submitit

        self.submitit = submitit
        self.running: list[SubmittedJob] = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for submitted in self._still_running():
            self.stop(submitted)
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline and self._still_running():
            time.sleep(0.2)
        for submitted in self._still_running():
            self.stop(submitted, kill=True)

    @property
    def free_slots(self) -> int:
        self.running = self._still_running()
        return self.config.n_jobs - len(self.running)

    def start(self, job: gptzoo.Job) -> SubmittedJob:
        gptzoo.RemoteJob(job.log).clear()
        executor = self.submitit.AutoExecutor(folder=job.log.parent / "slurm", cluster=self.config.cluster)
        executor.update_parameters(**self.submitit_parameters(job.log.parent.name))
        submitted = SubmittedJob(executor.submit(gptzoo.run_remote_job, job.arguments, str(job.log)), job.log)
        self.running.append(submitted)
        return submitted

    def submitit_parameters(self, name: str) -> dict[str, Any]:
        """Return the parameters for submitit's AutoExecutor. `name` is that of the trial."""
        config = self.config
        parameters: dict[str, Any] = {
            "name": f"gptzoo-{name}",
            "timeout_min": config.timeout_min,
            "cpus_per_task": config.cpus,
            "gpus_per_node": config.gpus or None,
            "mem_gb": config.memory_gb,
            "slurm_partition": config.partition,
            "slurm_additional_parameters": config.extra or None,
            "slurm_setup": [f"export OMP_NUM_THREADS={config.cpus}"],
        }
        return {name: value for name, value in parameters.items() if value is not None}

    def poll(self, handle: SubmittedJob) -> int | None:
        # The exit code comes from its own file: submitit returns results as pickles, which can run any code when read.
        remote = gptzoo.RemoteJob(handle.log)
        if (code := remote.exit_code) is not None:
            return code
        if not handle.job.done():
            return None
        code = remote.exit_code  # it may have been written since the first look
        return -int(signal.SIGKILL) if code is None else code

    def stop(self, handle: SubmittedJob, *, kill: bool = False) -> None:
        if kill and self.config.cluster == "slurm":
            handle.job.cancel()  # also removes the job from the queue if it has not begun
        else:  # cancelling a local submitit job would kill only the process that supervises it
            gptzoo.RemoteJob(handle.log).send_signal(signal.SIGKILL if kill else signal.SIGTERM)

    def wait(self, handles: Sequence[SubmittedJob], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and all(gptzoo.RemoteJob(h.log).exit_code is None for h in handles):
            time.sleep(0.1)

    def _still_running(self) -> list[SubmittedJob]:
        return [submitted for submitted in self.running if self.poll(submitted) is None]

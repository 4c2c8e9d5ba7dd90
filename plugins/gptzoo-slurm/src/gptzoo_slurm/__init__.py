"""The executor `slurm` for gptzoo: runs the trials of an ablation as Slurm jobs, submitted with submitit."""

from __future__ import annotations

import gptzoo
from gptzoo_slurm.executor import SlurmExecutor

__all__ = ["SlurmExecutor"]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [SlurmExecutor]

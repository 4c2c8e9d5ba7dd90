"""The executor `slurm` of gptzoo: trials of an ablation as jobs of a Slurm cluster, by submitit."""

from __future__ import annotations

import gptzoo
from gptzoo_slurm.executor import SlurmExecutor

__all__ = ["SlurmExecutor"]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [SlurmExecutor]

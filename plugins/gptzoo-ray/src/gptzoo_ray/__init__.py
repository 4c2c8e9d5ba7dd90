"""The executor `ray` for gptzoo: runs the trials of an ablation on a Ray cluster."""

from __future__ import annotations

import gptzoo
from gptzoo_ray.executor import RayExecutor

__all__ = ["RayExecutor"]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [RayExecutor]

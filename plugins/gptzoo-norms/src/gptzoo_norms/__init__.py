"""Norm placements for gptzoo, such as `"norm": "sandwich"`, and dynamic tanh, `"layer": "dyt"`, in place of a norm."""

from __future__ import annotations

import gptzoo
from gptzoo_norms.dyt import DynamicTanh
from gptzoo_norms.topologies import DeepNorm, ParallelNorm, PeriNorm, ReorderedNorm, SandwichNorm

__all__ = ["DeepNorm", "DynamicTanh", "ParallelNorm", "PeriNorm", "ReorderedNorm", "SandwichNorm"]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [ReorderedNorm, SandwichNorm, PeriNorm, ParallelNorm, DeepNorm, DynamicTanh]

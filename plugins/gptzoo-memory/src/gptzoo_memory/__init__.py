"""Attentions with a small memory for gptzoo: `mla` and `infini`.

`mla` caches one small latent vector per token instead of the keys and values of every head. `infini` caches the keys
and values of one segment, and summarises all earlier segments in a matrix of fixed size.
"""

from __future__ import annotations

import gptzoo
from gptzoo_memory.infini import InfiniAttention
from gptzoo_memory.mla import LatentAttention

__all__ = ["InfiniAttention", "LatentAttention"]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [LatentAttention, InfiniAttention]

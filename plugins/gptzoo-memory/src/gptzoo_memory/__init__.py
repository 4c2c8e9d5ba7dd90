"""Attentions that remember with less than a full cache, for gptzoo: `mla` and `infini`.

`mla` keeps one small latent vector for each token instead of the keys and values of every head; `infini` keeps the
keys and values of one segment, and of all that is further back a matrix of fixed size.
"""

from __future__ import annotations

import gptzoo
from gptzoo_memory.infini import InfiniAttention
from gptzoo_memory.mla import LatentAttention

__all__ = ["InfiniAttention", "LatentAttention"]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [LatentAttention, InfiniAttention]

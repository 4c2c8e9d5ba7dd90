"""Synthetic tasks for gptzoo, as corpora: `"corpus": {"type": "mqar", "n_pairs": 8}`."""

from __future__ import annotations

import gptzoo
from gptzoo_tasks.mqar import Mqar

__all__ = ["Mqar"]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [Mqar]

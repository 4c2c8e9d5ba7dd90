"""Synthetic tasks for gptzoo, as corpora: `"corpus": {"type": "mqar", "n_pairs": 8}`."""

from __future__ import annotations

import gptzoo
from gptzoo_tasks.copying import Compression, SelectiveCopying
from gptzoo_tasks.finite import Memorization, ModularAddition
from gptzoo_tasks.fuzzy import FuzzyRecall
from gptzoo_tasks.lookup import InductionHeads, Passkey
from gptzoo_tasks.mqar import Mqar
from gptzoo_tasks.recall import InContextRecall, NoisyRecall
from gptzoo_tasks.state_tracking import StateTracking

TASKS = (
    Mqar,
    InContextRecall,
    NoisyRecall,
    FuzzyRecall,
    SelectiveCopying,
    Compression,
    Memorization,
    InductionHeads,
    Passkey,
    StateTracking,
    ModularAddition,
)

__all__ = ["TASKS", *(task.__name__ for task in TASKS)]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return list(TASKS)

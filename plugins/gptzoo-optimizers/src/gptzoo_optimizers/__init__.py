"""Optimizers of pytorch-optimizer, schedulefree and heavyball for gptzoo: `"optimizer": "pytorch_optimizer.adan"`.

The libraries are imported when a run creates one of their optimizers, and not before.
"""

from __future__ import annotations

from collections.abc import Mapping

import gptzoo
from gptzoo_optimizers.catalog import tables
from gptzoo_optimizers.components import component_of


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [component_of(signature) for table in tables() for signature in table.signatures.values()]


@gptzoo.hookimpl
def gptzoo_left_out() -> Mapping[str, str]:
    return {f"optimizer:{name}": reason for table in tables() for name, reason in table.left_out.items()}

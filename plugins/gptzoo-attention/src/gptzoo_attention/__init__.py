"""Attentions for gptzoo: `flex` (FlexAttention), `block_sparse` and `differential`."""

from __future__ import annotations

import gptzoo
from gptzoo_attention.block_sparse import BlockSparseAttention
from gptzoo_attention.differential import DifferentialAttention
from gptzoo_attention.flex import FlexAttention

__all__ = ["BlockSparseAttention", "DifferentialAttention", "FlexAttention"]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [FlexAttention, BlockSparseAttention, DifferentialAttention]

"""The entries of a tensor-parallel plan: how each tensor of a component is split over processes.

The first linear layer of a sublayer is split by its outputs and the last one by its inputs, so the processes
communicate once per sublayer and direction. Shoeybi et al. 2019, Megatron-LM, arXiv:1909.08053.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gptzoo.errors import InputError


@dataclass(frozen=True)
class ColumnParallel:
    """A `Linear` whose outputs are split over the processes. All processes have the same inputs."""

    widths: tuple[int, ...] | None = None
    """Widths of the outputs that one product computes together, such as queries, keys and values. Each is split."""


@dataclass(frozen=True)
class RowParallel:
    """A `Linear` whose inputs are split over the processes. Outputs are summed, and the bias is added once."""


@dataclass(frozen=True)
class Sharded:
    """A parameter or buffer that is split along `dim`."""

    dim: int = 0


@dataclass(frozen=True)
class Replicated:
    """A parameter, a buffer or a whole module that every process holds in full."""

    partial: bool = False
    """Set it where each process uses the tensor for its own shard only, such as the norm of its query heads. Gradients
    are then summed over the processes. Otherwise all processes compute the same gradient."""


TensorSplit = ColumnParallel | RowParallel | Sharded | Replicated


def check_divisible(n: int, counts: Iterable[tuple[int, str]]) -> None:
    """Raise InputError for the first `(count, name)` that `n` processes cannot split evenly."""
    for count, name in counts:
        if count % n:
            raise InputError(f"{count} {name} cannot be split evenly over {n} processes")

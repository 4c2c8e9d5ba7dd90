"""How a part says that several processes may share its products: the plan of tensor parallelism.

The first product of a sublayer is cut by its outputs, the last by its inputs; in between each process works by itself,
and the processes talk once a sublayer and direction. Shoeybi et al. 2019, Megatron-LM, arXiv:1909.08053.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gptzoo.components.base import Part
from gptzoo.errors import InputError


@dataclass(frozen=True)
class ColumnParallel:
    """A `Linear` of whose outputs each process makes its share, from inputs that are the same in all of them."""

    widths: tuple[int, ...] | None = None
    """Of what it computes in one product, such as queries, keys and values: a share has a part of each."""


@dataclass(frozen=True)
class RowParallel:
    """A `Linear` of whose inputs each process has its share; outputs are summed over them, and the bias added once."""


@dataclass(frozen=True)
class Sharded:
    """A parameter or buffer of which each process has its share."""

    dim: int = 0


@dataclass(frozen=True)
class Replicated:
    """What each process has whole: a parameter, a buffer, or all that are in a module."""

    partial: bool = False
    """Each uses it for its share alone, as the norm of queries for its heads: the gradients are then summed. Otherwise
    all compute the same with it."""


Cut = ColumnParallel | RowParallel | Sharded | Replicated
TensorPlan = Mapping[str, Cut | Part]
"""By the name, inside the part, of a `Linear`, a parameter or a buffer, or of a module that is `Replicated`. A part in
it, such as an activation, stands for its own plan."""


def plan_of(part: Part, n: int) -> dict[str, Cut]:
    """Make a part, and the parts in its plan, one of `n` shares of itself; how each of its tensors is cut.

    Raises InputError where it has no plan or cannot be shared by so many, and RuntimeError for a plan that is wrong.
    """
    label = f"{part.kind} {part.name!r}"
    offered = part.tensor_parallel(n)
    if offered is None:
        raise _no_plan(part, "offers no plan for tensor parallelism")
    plan: dict[str, Cut] = {}
    for key, cut in offered.items():
        plan |= {f"{key}.{own}": c for own, c in plan_of(cut, n).items()} if isinstance(cut, Part) else {key: cut}
    tensors = [name for name, _ in (*part.named_parameters(), *part.named_buffers())]
    if missing := [name for name in tensors if not any(is_in(name, key) for key in plan)]:
        why = f"its plan for tensor parallelism does not say what becomes of {', '.join(missing)}"
        if "tensor_parallel" in vars(type(part)):
            raise RuntimeError(f"{label}: {why}")
        raise _no_plan(part, f"has inherited its plan for tensor parallelism, which knows nothing of {missing[0]}")
    if strange := plan.keys() - {*tensors, *dict(part.named_modules())}:
        names = ", ".join(sorted(strange))
        raise RuntimeError(f"{label}: its plan for tensor parallelism names {names}, which it has not")
    return plan


def evenly(n: int, counts: Iterable[tuple[int, str]]) -> None:
    """Raise InputError for the first of the counts, each with what is counted, that `n` processes cannot share."""
    for count, what in counts:
        if count % n:
            raise InputError(f"{count} {what} cannot be shared evenly by {n} processes")


def is_in(name: str, key: str) -> bool:
    """Whether a tensor is the one that a plan names, or in the module that it names."""
    return name == key or name.startswith(f"{key}.")


def _no_plan(part: Part, why: str) -> InputError:
    return InputError(
        f"{part.kind} {part.name!r} {why}: implement tensor_parallel in {type(part).__name__} "
        "(docs/components.md says how), take another, or set it to 1"
    )

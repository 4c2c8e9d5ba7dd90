"""The tensor-parallel plan of a component, with the plans of nested components resolved and checked."""

from __future__ import annotations

from gptzoo.components.part import Part
from gptzoo.components.tensor_plan import Cut
from gptzoo.errors import InputError


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


def is_in(name: str, key: str) -> bool:
    """Whether a tensor is the one that a plan names, or in the module that it names."""
    return name == key or name.startswith(f"{key}.")


def _no_plan(part: Part, why: str) -> InputError:
    return InputError(
        f"{part.kind} {part.name!r} {why}: implement tensor_parallel in {type(part).__name__} "
        "(docs/components.md says how), take another, or set it to 1"
    )

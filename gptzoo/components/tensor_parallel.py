"""Checked tensor-parallel plans, with the plans of nested components resolved."""

from __future__ import annotations

from gptzoo.components.part import Part
from gptzoo.components.tensor_plan import TensorSplit
from gptzoo.errors import InputError


def resolve_plan(part: Part, n: int) -> dict[str, TensorSplit]:
    """Turn a part and its nested parts into one of `n` shards, and return the split of each tensor by name.

    Raises InputError if the part has no plan or cannot be split evenly, and RuntimeError if its plan is wrong.
    """
    label = f"{part.kind} {part.name!r}"
    declared = part.tensor_parallel(n)
    if declared is None:
        raise _no_plan(part, "has no tensor-parallel plan")
    plan: dict[str, TensorSplit] = {}
    for key, entry in declared.items():
        if isinstance(entry, Part):
            plan |= {f"{key}.{name}": split for name, split in resolve_plan(entry, n).items()}
        else:
            plan[key] = entry
    tensors = [name for name, _ in (*part.named_parameters(), *part.named_buffers())]
    if missing := [name for name in tensors if not any(is_covered(name, key) for key in plan)]:
        if "tensor_parallel" in vars(type(part)):
            raise RuntimeError(f"{label}: its tensor-parallel plan has no entry for {', '.join(missing)}")
        raise _no_plan(part, f"inherits a tensor-parallel plan that has no entry for {missing[0]}")
    if unknown := plan.keys() - {*tensors, *dict(part.named_modules())}:
        names = ", ".join(sorted(unknown))
        raise RuntimeError(
            f"{label}: its tensor-parallel plan names {names}, but the part has no such tensor or module"
        )
    return plan


def is_covered(name: str, key: str) -> bool:
    """Return True if the plan entry `key` is the tensor `name` or a module that contains it."""
    return name == key or name.startswith(f"{key}.")


def _no_plan(part: Part, reason: str) -> InputError:
    return InputError(
        f"{part.kind} {part.name!r} {reason}. Implement tensor_parallel in {type(part).__name__} "
        "(see docs/components.md), choose another component, or set parallel.tensor to 1."
    )

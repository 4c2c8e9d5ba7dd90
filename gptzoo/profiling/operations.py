"""FLOPs and bytes of the operations of a training step, counted while it runs.

FLOPs are those of matrix products, convolutions and fused attention; a multiply-add counts as two. Attention counts as
T x T even if a mask hides part of it. Bytes are those that an operation must read and write if nothing is in a cache:
its input and output tensors. A view costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

COUNTED = "gptzoo operation "  # prefix of the events around operations, before their index

_READS_OUTPUT_SIZE = frozenset({"embedding", "index", "index_select", "gather"})  # of their first argument
_WRITES_ONLY = frozenset({"copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "random_"})
_ALLOCATES_ONLY = ("empty", "new_empty")


@dataclass(frozen=True)
class Operation:
    """The work of one operation."""

    name: str
    flops: int
    n_bytes: int
    dtype: torch.dtype | None  # of the factors, if there are FLOPs


class CountOperations(TorchDispatchMode):
    """A context that counts the operations inside it. Each is an event of the profiler, named by its index."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        if getattr(func, "namespace", "") == "profiler":  # the start or end of a scope
            return func(*args, **(kwargs or {}))
        index = len(self.operations)
        self.operations.append(Operation("", 0, 0, None))  # operations inside this one come later
        with record_function(f"{COUNTED}{index}"):
            result = func(*args, **(kwargs or {}))
        self.operations[index] = count(func, args, kwargs or {}, result)
        return result


def count(func: Callable[..., object], args: Sequence[object], kwargs: dict[str, object], result: object) -> Operation:
    """Return the work of an operation that was called with these arguments."""
    name = str(getattr(func, "__name__", func)).partition(".")[0]
    n_flops = flops(func, name, args, kwargs, result)
    factor = next((leaf for leaf in tree_leaves(args) if _is_float(leaf)), None)
    dtype = factor.dtype if n_flops and isinstance(factor, Tensor) else None
    return Operation(name, n_flops, moved_bytes(func, name, args, kwargs, result), dtype)


def flops(
    func: Callable[..., object], name: str, args: Sequence[Any], kwargs: dict[str, object], result: object
) -> int:
    """Return the FLOPs of an operation, 0 for those without products."""
    if name.startswith("_scaled_dot_product") and "attention" in name:
        return _attention_flops(*args[1:4], backward=True) if "backward" in name else _attention_flops(*args[:3])
    formula = flop_registry.get(getattr(func, "overloadpacket", func))
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=result))


def _attention_flops(q: Tensor, k: Tensor, v: Tensor, *, backward: bool = False) -> int:
    """Return the FLOPs of fused attention on (B, H, T, D). torch has no formula for a CPU and for grouped heads.

    The backward pass computes the scores again, and the gradients of both factors of both products.
    """
    scores, values = q.shape[-1], v.shape[-1]
    widths = 3 * scores + 2 * values if backward else scores + values
    return 2 * math.prod(q.shape[:-1]) * k.shape[-2] * widths


def moved_bytes(
    func: Callable[..., object], name: str, args: Sequence[Any], kwargs: dict[str, Any], result: object
) -> int:
    """Return the bytes that an operation reads and writes."""
    if name.startswith(_ALLOCATES_ONLY):
        return 0
    inputs = _tensors((args, kwargs))
    storages = {tensor.untyped_storage()._cdata for tensor in inputs}
    created = [tensor for tensor in _tensors(result) if tensor.untyped_storage()._cdata not in storages]
    changed = _tensors(_changed_arguments(func, args, kwargs))
    if not created and not changed:
        return 0  # a view
    written = sum(map(_n_bytes, [*created, *changed]))
    if name.endswith("_like"):
        return written
    if name in _WRITES_ONLY:
        inputs = inputs[1:]
    if name in _READS_OUTPUT_SIZE and inputs:
        return 2 * written + sum(map(_n_bytes, inputs[1:]))
    return written + sum(map(_n_bytes, inputs))


def _changed_arguments(func: Callable[..., object], args: Sequence[object], kwargs: dict[str, object]) -> list[object]:
    """Return the arguments that the operation's schema marks as written."""
    schema = getattr(func, "_schema", None)
    if schema is None:
        return []
    values = {argument.name: value for argument, value in zip(schema.arguments, args, strict=False)} | kwargs
    written = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    if schema.name.startswith("aten::_fused_") and values.get("grad_scale") is None:
        written.remove("grads")  # an optimizer step scales them only if there is a scale
    return [values.get(name) for name in written]


def _tensors(value: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _n_bytes(tensor: Tensor) -> int:
    """Return the bytes of the distinct elements: an expanded dimension is stored once."""
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0)
    return math.prod(sizes) * tensor.element_size()

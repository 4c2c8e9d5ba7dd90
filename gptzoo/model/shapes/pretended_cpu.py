"""Tensors that claim to be on the CPU, and have a shape but no values.

Every operation selects the same kernel, and saves the same tensors for the backward pass, as on a real CPU. torch has
such tensors as well (`FakeTensorMode`), but using them imports its compiler, which takes longer than a dry run. They
can do more: the tensors here have no values at all, not even those of constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from gptzoo.model.shapes.eager_mode import EagerMode

_CPU, _META = torch.device("cpu"), torch.device("meta")
_DEVICE_DEPENDENT = ("norm", "fft", "linalg", "svd", "embedding_bag", "nested", "conv", "sort", "quant")
"""Parts of the names of operations whose results may have another dtype or other strides on a CPU than on meta."""


class NotPretended(Exception):
    """An operation that may not give the same shapes and dtypes as on a CPU, or needs values."""


class _PretendedTensor(Tensor):
    """A tensor on a pretended CPU. Its meta tensor has the shape, and the storage that views of it share."""

    meta: Tensor

    @staticmethod
    def __new__(cls, meta: Tensor) -> _PretendedTensor:
        pretended: _PretendedTensor = Tensor._make_wrapper_subclass(
            cls,
            meta.shape,
            strides=meta.stride(),
            storage_offset=meta.storage_offset(),
            dtype=meta.dtype,
            device=_CPU,
            requires_grad=meta.requires_grad,
        )
        pretended.meta = meta
        return pretended

    def __init__(self, *args: object) -> None:
        """Accept the arguments of any constructor of a tensor, whose result a pretended CPU replaces."""

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.meta.untyped_storage()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own classes have these types
        cls,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        return _execute(func, args, kwargs or {})


class PretendedCpu(EagerMode):  # type: ignore[no-untyped-call]
    """A context in which new tensors are on a pretended CPU.

    Raises NotPretended for operations whose results it does not know to be those of a CPU.
    """

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        return _execute(func, args, kwargs or {})


def _execute(func: object, args: tuple[Any, ...], kwargs: Mapping[str, object]) -> object:
    """Execute an operation on the meta tensors of its arguments."""
    if not isinstance(func, torch._ops.OpOverload) or torch.Tag.inplace_view in func.tags:
        raise NotPretended(str(func))
    if kwargs.get("device") not in (None, _CPU):
        raise NotPretended(f"{func} on {kwargs['device']}")
    if func is torch.ops.aten.lift_fresh.default:  # of a constant, which torch.tensor makes with values
        return _PretendedTensor(torch.empty_strided(args[0].shape, args[0].stride(), dtype=args[0].dtype, device=_META))
    wrappers: dict[int, _PretendedTensor] = {}

    def unwrap(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, _PretendedTensor):
            raise NotPretended(f"{func} of a tensor with values")
        if _depends_on_device(func) and tensor.dtype != torch.float32:
            raise NotPretended(f"{func} of {tensor.dtype}")
        wrappers[id(tensor.meta)] = tensor
        return tensor.meta

    meta_args, meta_kwargs = tree_map_only(Tensor, unwrap, (args, dict(kwargs)))
    if "device" in meta_kwargs or (not wrappers and _has_device(func)):
        meta_kwargs = {**meta_kwargs, "device": _META}
    result = func(*meta_args, **meta_kwargs)
    # An operation in place returns its argument, whose wrapper stays the same.
    return tree_map_only(
        Tensor, lambda meta: wrappers[id(meta)] if id(meta) in wrappers else _PretendedTensor(meta), result
    )


@cache
def _depends_on_device(func: torch._ops.OpOverload) -> bool:
    name = str(func.overloadpacket)
    return any(part in name for part in _DEVICE_DEPENDENT)


@cache
def _has_device(func: torch._ops.OpOverload) -> bool:
    return any(argument.name == "device" for argument in func._schema.arguments)

"""A FLOP counter with torch's formulas, without an import of torch's compiler.

`torch.utils.flop_counter.FlopCounterMode` hides itself from the compiler, and imports it to do so, which takes several
times as long as a dry run. It also counts by module, which is not needed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from gptzoo.model.shapes.eager_mode import EagerMode


class HigherOrderOperation(Exception):
    """An operation that calls functions, such as a condition. Only torch's own counter has a rule for each."""


class FlopCounter(EagerMode):
    """A context that counts the FLOPs of the operations inside it."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload | torch._ops.HigherOrderOperator,
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if isinstance(func, torch._ops.HigherOrderOperator):
            raise HigherOrderOperation(str(func))
        if func is not torch.ops.prim.device.default:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        from torch.utils.flop_counter import flop_registry  # which imports sympy; a training run counts none

        formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=result)
        return result

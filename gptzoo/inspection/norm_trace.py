"""The data flow of a norm scheme: the norms, sublayers and additions on the residual stream of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from gptzoo.component import Config
from gptzoo.components.part import Part

_ALIASES = {"radd": "add", "iadd": "add"}  # operators whose reflected and in-place forms mean the same


@dataclass(frozen=True)
class Operation:
    """One operation of a block, in the order of execution."""

    name: str  # of a sublayer, of the kind of a part, or of a torch function such as add
    inputs: tuple[int, ...]  # indices of the operations that computed its inputs; -1 is the block's input
    config: Config | None = None  # of a part of the norm scheme


def trace_norm(norm: nn.Module, sublayers: Iterable[str], stream: Tensor) -> tuple[Operation, ...]:
    """Run a norm scheme on a residual stream with stand-ins for the named sublayers, and return its operations.

    A part, such as a norm layer, is one operation. Everything else is recorded by torch function.
    """
    recorder = _OperationRecorder(stream)
    parts = [module for module in norm.modules() if isinstance(module, Part) and module is not norm]
    with contextlib.ExitStack() as stack, torch.no_grad():
        for part in parts:
            vars(part)["forward"] = recorder.as_operation(part.config.component.kind, part.forward, part.config)
            stack.callback(vars(part).pop, "forward")
        stack.enter_context(recorder)
        norm(stream, {name: recorder.as_operation(name, torch.empty_like) for name in sublayers})
    return tuple(recorder.operations)


class _Call(NamedTuple):
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class _OperationRecorder(TorchFunctionMode):
    """A recorder of the torch functions called on tensors that are computed from `stream`."""

    def __init__(self, stream: Tensor):
        super().__init__()
        self.operations: list[Operation] = []
        self._operation_of = {id(stream): -1}  # the operation that computed a tensor, by the tensor's id
        self._tensors = [stream]  # Keeps tensors alive: Python could give the id of a freed one to another.
        self._inside_operation = False

    def as_operation(self, name: str, function: Callable[..., Any], config: Config | None = None) -> Callable[..., Any]:
        """Wrap `function` so that a call is recorded as one operation, without the torch functions inside it."""

        def recorded(*args: object, **kwargs: object) -> object:
            if self._inside_operation:
                return function(*args, **kwargs)
            self._inside_operation = True
            result = function(*args, **kwargs)
            self._inside_operation = False
            self._record(name, _Call(args, kwargs), result, config)
            return result

        return recorded

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self._inside_operation:
            name = getattr(func, "__name__", str(func)).strip("_")
            self._record(_ALIASES.get(name, name), _Call(args, kwargs), result)
        return result

    def _record(self, name: str, call: _Call, result: object, config: Config | None = None) -> None:
        outputs = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        arguments = tree_leaves((call.args, call.kwargs))
        inputs = [self._operation_of[id(value)] for value in arguments if id(value) in self._operation_of]
        if outputs and inputs:
            self._operation_of |= dict.fromkeys(map(id, outputs), len(self.operations))
            self._tensors += outputs
            self.operations.append(Operation(name, tuple(dict.fromkeys(inputs)), config))

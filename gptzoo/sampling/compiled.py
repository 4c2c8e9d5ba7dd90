"""Steps of decoding by compiled code: of all blocks at once, so that little is left to decide between products."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from gptzoo.components.base import Architecture, Emit, Step
from gptzoo.errors import InputError
from gptzoo.model.block import allow_graphs
from gptzoo.model.stack import Stack, States
from gptzoo.sampling.packed_product import teach_inductor


def compile_decoding(model: Architecture) -> None:
    """Have what is between embeddings and head compiled by the first step of one token a row that goes on from a cache.

    Sizes of batch and cache are left open, so what is compiled serves all steps; a batch of one row has code of its
    own. Prompts are read as before. What torch cannot compile whole stays as it is, and a warning says why. From the
    first step on the modules of the model are taken to be what they were then: hooks that come later are not called
    in such steps. On CUDA, whoever decodes in batches records such steps too (`gptzoo.sampling.graphs`). Raises
    InputError where a C++ compiler is needed and there is none.
    """
    if next(model.parameters()).device.type == "cpu":
        _need_compiler()
    teach_inductor()
    allow_graphs()
    torch._dynamo.config.specialize_float = True  # an epsilon is a number of the code, no input of it
    for name, stack in model.named_modules():
        if isinstance(stack, Stack):
            stack.decode = _Compiled(name or type(stack).name, next(model.parameters()).device)


def _need_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise InputError("compiling for a CPU needs a C++ compiler, and torch finds none: install g++") from None


def is_compiled(model: Architecture) -> bool:
    """Whether `compile_decoding` has seen the model."""
    return any(isinstance(module, Stack) and module.decode is not None for module in model.modules())


def _through(_stack: Stack, x: Tensor, step: Step, states: States) -> Emit:
    return _stack.through(x, step, states)


_OF_THE_STACK = re.compile(r"\b_stack\b")


def _worth_asking(guards: Sequence[Any]) -> list[bool]:
    """Which conditions of compiled code are looked at in every step: where batches, caches and steps may differ.

    The others are about the modules of the one model that the code is of. To find nothing new there takes longer than
    attention.
    """
    return [not guard.is_global and not _OF_THE_STACK.search(guard.name) for guard in guards]


class _Compiled:
    """`through` of one stack, compiled; the stack's own where that cannot be."""

    def __init__(self, name: str, device: torch.device):
        self.name = name
        # torch finds what it has compiled by the code object. As the model is not asked for, none may share it.
        own = FunctionType(_through.__code__.replace(), globals())
        options: dict[str, Any] = {"guard_filter_fn": _worth_asking}
        if device.type == "cpu":
            options["cpp_wrapper"] = True  # what goes on between kernels is in C++ too
        self.through = torch.compile(own, fullgraph=True, dynamic=True, options=options)

    def __call__(self, stack: Stack, x: Tensor, step: Step, states: States) -> Emit:
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        try:
            emitted: Emit = self.through(stack, x, step, states)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:  # before anything was computed
            stack.decode = None
            warnings.warn(f"{self.name} is not compiled: {_reason(error)}", stacklevel=2)
            return stack.through(x, step, states)
        return emitted


def _reason(error: Exception) -> str:
    """What torch could not compile, and where the component's own code asks for it."""
    what = str(error).strip().partition("\n")[0]
    places = re.findall(r'File "(.+)", line (\d+)', str(error))
    return f"{what}, at {places[-1][0]}:{places[-1][1]}" if places else what

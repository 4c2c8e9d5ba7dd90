"""Steps of decoding by compiled code: of each block, so that equal blocks share it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gptzoo.components.base import Architecture, Emit, State, Step
from gptzoo.errors import InputError
from gptzoo.model.block import Block, allow_graphs
from gptzoo.sampling.packed_product import teach_inductor

_SETTLED = {"EMPTY_NN_MODULE_HOOKS_DICT", "NOT_PRESENT_IN_GENERIC_DICT"}


def compile_decoding(model: Architecture) -> None:
    """Have the blocks of a model compiled by the first step of one token a row that goes on from a cache.

    Sizes of batch and cache are left open, so what is compiled serves all steps; a batch of one row has code of its
    own. Prompts are read as before. A block that torch cannot compile whole stays as it is, and a warning names it.
    Hooks that are put on modules after the first step are not called in such steps. On CUDA, whoever decodes in
    batches records such steps too (`gptzoo.sampling.graphs`). Raises InputError where a C++ compiler is needed and
    there is none.
    """
    allow_graphs()
    teach_inductor()
    options: dict[str, Any] = {"guard_filter_fn": _worth_asking}
    if next(model.parameters()).device.type == "cpu":
        _need_compiler()
        options["cpp_wrapper"] = True  # what goes on between kernels is in C++ too
    run = torch.compile(Block.run, fullgraph=True, dynamic=True, options=options)
    for name, block in model.named_modules():
        if isinstance(block, Block):
            block.decode = _Compiled(run, name)


def _need_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise InputError("compiling for a CPU needs a C++ compiler, and torch finds none: install g++") from None


def is_compiled(model: Architecture) -> bool:
    """Whether `compile_decoding` has seen the model."""
    return any(isinstance(module, Block) and module.decode is not None for module in model.modules())


def _worth_asking(guards: Sequence[Any]) -> list[bool]:
    """Which conditions of compiled code are looked at in every step: where blocks, batches and steps may differ.

    The others are about hooks and the functions of modules; to find nothing new there takes longer than attention.
    """
    return [guard.guard_type not in _SETTLED and not guard.is_global for guard in guards]


class _Compiled:
    """`Block.run`, compiled; the block's own where that cannot be."""

    def __init__(self, run: Any, name: str):
        self.run = run
        self.name = name

    def __call__(self, block: Block, x: Tensor, step: Step, states: Mapping[str, State]) -> Emit:
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        try:
            emitted: Emit = self.run(block, x, step, states)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:  # before anything was computed
            block.decode = None
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"{self.name} is not compiled: {reason}", stacklevel=2)
            return block.run(x, step, states)
        return emitted

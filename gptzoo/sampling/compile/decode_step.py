"""Steps of decoding by compiled code: of all blocks at once, so that little is left to decide between products."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from gptzoo.components.context import ForwardContext
from gptzoo.components.sublayer import SublayerOutput
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.model.stack import Stack, States
from gptzoo.sampling.weights.onednn_linear import teach_inductor

if TYPE_CHECKING:
    from gptzoo.sampling.compile.aot_cache import Code

_MOST = 8  # pieces of code for one stack: one row and several, short contexts and long ones, and some to spare
_MANY = 1024  # layouts of inputs that are remembered


def compile_decoding(model: Architecture) -> None:
    """Have what is between embeddings and head compiled by the first step of one token a row that goes on from a cache.

    Sizes of batch and cache are left open, so what is compiled serves all steps; a batch of one row has code of its
    own. Prompts are read as before, and so is what is to be captured. What torch cannot compile whole stays as it is,
    and a warning says why. From the first step on the modules of the model, and its weights, are taken to be what they
    were then: hooks that come later are not called in such steps. On CUDA, whoever decodes in batches records such
    steps too (`gptzoo.sampling.compile.cuda_graphs`). Raises InputError where a C++ compiler is needed and there is none.
    """
    if next(model.parameters()).device.type == "cpu":
        _need_compiler()
    teach_inductor()
    for name, stack in model.named_modules():
        if isinstance(stack, Stack):
            stack.decode = _Compiled(name or type(stack).name)


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


class _Piece(NamedTuple):
    """Code for steps whose inputs meet its conditions, and what else it takes and gives."""

    code: Code
    weights: list[Tensor]
    emitted: Callable[[Sequence[Tensor]], SublayerOutput]


Usable = list[tuple[_Piece, Callable[[int | None], bool]]]


class _Compiled:
    """`through` of one stack by code that was compiled for it; by the stack itself where that cannot be."""

    def __init__(self, name: str):
        self.name = name
        self.pieces: list[_Piece] = []
        self._usable: dict[Any, Usable] = {}  # by the layout of inputs
        self._latest: tuple[Any, list[weakref.ref[Tensor]], Usable] = (None, [], [])  # what was fed, to which states
        self._gave_up = False

    def __deepcopy__(self, memo: dict[int, Any]) -> _Compiled:
        return _Compiled(self.name)  # the copied stack has other weights

    def __call__(self, stack: Stack, x: Tensor, context: ForwardContext, states: States) -> SublayerOutput:
        from gptzoo.sampling.compile.export import inputs_of

        if context.capture or context.memory is not None or torch.is_autocast_enabled(x.device.type):
            return stack.through(x, context, states)
        inputs = inputs_of(x, context, states)
        usable = self._usable_for(inputs if context.position_limit is None else inputs[:-1], inputs)
        piece = next((piece for piece, holds in usable if holds(context.position_limit)), None)
        piece = piece or self._make(stack, x, context, states)
        if piece is None:
            return stack.through(x, context, states)
        return piece.emitted(piece.code.run([*inputs, *piece.weights]))

    def _usable_for(self, laid_out: list[Tensor], inputs: list[Tensor]) -> Usable:
        """The pieces of code for inputs laid out like these, each with what is left to ask of the reach."""
        x, positions, *states = laid_out
        fed = x.dtype, x.shape, x.stride(), positions.dtype, positions.shape
        latest_fed, latest, usable = self._latest
        # To look at 36 tensors takes a hundredth of a step of GPT-2 in bfloat16, so those that were seen are not.
        alike = fed == latest_fed and len(states) == len(latest)
        if alike and all(tensor is seen() for tensor, seen in zip(states, latest, strict=True)):
            return usable
        layout = fed, tuple((t.shape, t.stride(), t.storage_offset(), t.dtype) for t in states)
        if layout not in self._usable:
            if len(self._usable) == _MANY:
                self._usable.clear()
            remaining = [(piece, piece.code.conditions.remaining(inputs)) for piece in self.pieces]
            self._usable[layout] = [(piece, holds) for piece, holds in remaining if holds is not None]
        self._latest = fed, [weakref.ref(t) for t in states], self._usable[layout]
        return self._usable[layout]

    def _make(self, stack: Stack, x: Tensor, context: ForwardContext, states: States) -> _Piece | None:
        from gptzoo.sampling.compile.export import reason

        if self._gave_up:
            return None
        try:
            piece = self._compile(stack, x, context, states)
        except Exception as error:  # whatever components and compilers raise about tensors without values
            self._gave_up = True
            which = f"another step of {self.name}" if self.pieces else self.name
            warnings.warn(f"{which} is not compiled: {reason(error)}", stacklevel=2)
            return None
        self.pieces.append(piece)
        self._usable.clear()
        self._latest = None, [], []
        return piece

    def _compile(self, stack: Stack, x: Tensor, context: ForwardContext, states: States) -> _Piece:
        from gptzoo.sampling.compile.aot_cache import compiled_ahead
        from gptzoo.sampling.compile.export import export_step, inputs_of

        if len(self.pieces) == _MOST:
            raise RuntimeError(f"there are {_MOST} pieces of code already, each for steps of other sizes")
        exported, inputs = export_step(stack, x, context, states), inputs_of(x, context, states)
        if not exported.conditions(exported.clauses()).hold(inputs):
            raise RuntimeError("its states lie in the memory of others")
        code = compiled_ahead(exported, inputs)
        return _Piece(code, list(exported.weights.values()), exported.emitted)

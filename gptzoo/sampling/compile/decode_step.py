"""Compiled decode steps: `compile_decoding` runs all blocks of a model as one compiled function."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gptzoo.components.context import ForwardContext
from gptzoo.components.sublayer import SublayerOutput
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture, States
from gptzoo.model.stack import Stack
from gptzoo.sampling.compile.onednn_linear import register_inductor_lowering
from gptzoo.sampling.compile.step_inputs import step_inputs

if TYPE_CHECKING:
    from gptzoo.sampling.compile.aot_cache import CompiledCode

MAX_VARIANTS = 8  # compiled per stack: one row and several, short and long contexts, and some spare
MAX_CACHED_LAYOUTS = 1024  # input layouts whose guards were evaluated


def compile_decoding(model: Architecture) -> None:
    """Compile the block stack on the first single-token decode step.

    Batch size and cache size stay dynamic, so the code serves all steps; a batch of one row has its own code. Prefill,
    longer chunks and steps with captures run uncompiled. If torch cannot compile the stack, it runs uncompiled and a
    warning gives the reason. After the first step, changes to modules, weights and hooks have no effect on compiled
    steps. On CUDA, batched decoding also captures the steps in CUDA graphs (`gptzoo.sampling.compile.cuda_graphs`).
    On CUDA without the files of a CUDA toolkit, a warning says so, and steps are only captured.
    Raises InputError on a CPU without a C++ compiler.
    """
    missing = None
    if next(model.parameters()).device.type == "cpu":
        _require_cpp_compiler()
    else:
        missing = missing_for_cuda()
    if missing is not None:
        message = f"decode steps on CUDA are only captured as CUDA graphs, not compiled, because {missing}"
        advice = f"Install g++, and set CUDA_HOME to a CUDA toolkit of version {torch.version.cuda}."
        warnings.warn(f"{message}. {advice}", stacklevel=2)
    register_inductor_lowering()
    for name, stack in model.named_modules():
        if isinstance(stack, Stack):
            stack.compiled_decode_step = CompiledDecode(name or type(stack).name, can_compile=missing is None)


def _require_cpp_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise InputError("compiling for a CPU needs a C++ compiler, and torch finds none. Install g++.") from None


def missing_for_cuda() -> str | None:
    """Return what ahead-of-time compilation for CUDA lacks on this machine, or None if it lacks nothing.

    torch finds out only after most of the compilation. Its packages for pip contain no CUDA toolkit.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils.cpp_extension import CUDA_HOME

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "torch finds no C++ compiler"
    if CUDA_HOME is None:
        return "torch finds no CUDA toolkit"
    headers = [f"include/{name}" for name in ("cuda.h", "crt/host_defines.h")]
    return next((f"{CUDA_HOME} has no {name}" for name in headers if not (Path(CUDA_HOME) / name).is_file()), None)


def is_compiled(model: Architecture) -> bool:
    """Return True if `compile_decoding` was called on the model."""
    return any(isinstance(module, Stack) and module.compiled_decode_step is not None for module in model.modules())


class _Variant(NamedTuple):
    """Compiled code of one stack for inputs that its guards accept."""

    code: CompiledCode
    weights: list[Tensor]
    to_output: Callable[[Sequence[Tensor]], SublayerOutput]


Candidates = list[tuple[_Variant, Callable[[int | None], bool]]]
"""Variants that fit an input layout, each with the guard on the position limit that is left to check."""


class CompiledDecode:
    """Compiled decode steps of one stack. Variants are compiled on demand; `Stack.forward_blocks` is the fallback."""

    def __init__(self, name: str, *, can_compile: bool = True):
        self.name, self.can_compile = name, can_compile
        self.variants: list[_Variant] = []
        self._candidates: dict[Hashable, Candidates] = {}  # by input layout
        # Input layout, states and candidates of the last step.
        self._last: tuple[Hashable, list[weakref.ref[Tensor]], Candidates] = (None, [], [])
        self._gave_up = not can_compile

    def __deepcopy__(self, memo: dict[int, object]) -> CompiledDecode:
        return CompiledDecode(self.name, can_compile=self.can_compile)  # the copied stack has its own weights

    def __call__(self, stack: Stack, x: Tensor, context: ForwardContext, states: States) -> SublayerOutput:
        if context.capture or context.memory is not None or torch.is_autocast_enabled(x.device.type):
            return stack.forward_blocks(x, context, states)
        inputs = step_inputs(x, context, states)
        candidates = self._candidates_for(inputs if context.position_limit is None else inputs[:-1], inputs)
        variant = next((variant for variant, guard in candidates if guard(context.position_limit)), None)
        variant = variant or self._add_variant(stack, x, context, states)
        if variant is None:
            return stack.forward_blocks(x, context, states)
        return variant.to_output(variant.code.run([*inputs, *variant.weights]))

    def _candidates_for(self, fixed_inputs: list[Tensor], inputs: list[Tensor]) -> Candidates:
        """Return the variants that fit the layout of `fixed_inputs`, the inputs without the position limit."""
        x, positions, *states = fixed_inputs
        step_layout = x.dtype, x.shape, x.stride(), positions.dtype, positions.shape
        last_layout, last_states, candidates = self._last
        # Reading the layout of 36 tensors takes 1% of a step of GPT-2 in bfloat16, so the same tensors are recognised.
        same_layout = step_layout == last_layout and len(states) == len(last_states)
        if same_layout and all(tensor is last() for tensor, last in zip(states, last_states, strict=True)):
            return candidates
        layout = step_layout, tuple((t.shape, t.stride(), t.storage_offset(), t.dtype) for t in states)
        if layout not in self._candidates:
            if len(self._candidates) == MAX_CACHED_LAYOUTS:
                self._candidates.clear()
            guards = [(variant, variant.code.guards.specialize(inputs)) for variant in self.variants]
            self._candidates[layout] = [(variant, guard) for variant, guard in guards if guard is not None]
        self._last = step_layout, [weakref.ref(t) for t in states], self._candidates[layout]
        return self._candidates[layout]

    def _add_variant(self, stack: Stack, x: Tensor, context: ForwardContext, states: States) -> _Variant | None:
        """Compile a variant for these inputs. If that fails, warn, give up for good and return None."""
        from gptzoo.sampling.compile.export import failure_reason

        if self._gave_up:
            return None
        try:
            variant = self._compile(stack, x, context, states)
        except Exception as error:  # components and compilers may raise anything when they are traced
            self._gave_up = True
            subject = f"another variant of {self.name}" if self.variants else self.name
            warnings.warn(f"{subject} is not compiled: {failure_reason(error)}", stacklevel=2)
            return None
        self.variants.append(variant)
        self._candidates.clear()
        self._last = None, [], []
        return variant

    def _compile(self, stack: Stack, x: Tensor, context: ForwardContext, states: States) -> _Variant:
        # torch.export takes seconds to import, so it waits for the first compilation.
        from gptzoo.sampling.compile.aot_cache import load_or_compile
        from gptzoo.sampling.compile.export import export_decode_step

        if len(self.variants) == MAX_VARIANTS:
            raise RuntimeError(f"it has {MAX_VARIANTS} compiled variants already, each for other sizes")
        exported, inputs = export_decode_step(stack, x, context, states), step_inputs(x, context, states)
        if not exported.guards(exported.guard_expressions()).accept(inputs):
            raise RuntimeError("its states are views at an offset in the memory of other tensors")
        code = load_or_compile(exported, inputs)
        return _Variant(code, list(exported.weights.values()), exported.to_output)

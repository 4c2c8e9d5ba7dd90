"""A step of decoding as torch exports it: a program of tensors alone, and what it takes for granted of them."""

from __future__ import annotations

import contextlib
import io
import re
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import SYMPY_INTERP

from gptzoo.components.context import ForwardContext
from gptzoo.components.sublayer import SublayerOutput
from gptzoo.model.stack import Stack, States


@dataclass(frozen=True)
class Exported:
    """`Stack.through` for one token a row that goes on from a cache.

    The program takes what `inputs_of` returns, and then `weights`; the states among them it writes to. It returns the
    output and whatever else the step emits, which `emitted` puts together.
    """

    program: ExportedProgram
    weights: dict[str, Tensor]
    n_inputs: int
    has_reach: bool
    emitted: Callable[[Sequence[Tensor]], SublayerOutput]

    def clauses(self) -> list[str]:
        """What is taken for granted of sizes and strides, as Python. Compiling the program adds to it."""
        told = self._told()
        names = [str(index) for index in range(self.n_inputs)]
        clauses: list[str] = told[0].fake_mode.shape_env.produce_guards(told, names, ignore_static=False)
        return clauses

    def conditions(self, clauses: Sequence[str]) -> Conditions:
        """Those under which code whose clauses these are may be used."""
        return Conditions(
            clauses, [value.dtype for value in self._told()], self.n_inputs - 1 if self.has_reach else None
        )

    def _told(self) -> list[Any]:
        return [node.meta["val"] for node in self.program.graph.nodes if node.op == "placeholder"][: self.n_inputs]


def inputs_of(x: Tensor, context: ForwardContext, states: States) -> list[Tensor]:
    """What differs from step to step, as tensors, laid out alike for all steps of as many rows.

    The reach is the size of the last of them: to the program it so is a number, and one that may change.
    """
    positions = context.positions.expand(x.shape[0], 1).contiguous()
    if positions.storage_offset():
        positions = positions.clone()
    reach = [] if context.position_limit is None else [positions.new_empty(context.position_limit)]
    kept = [tensor for layer in states for state in layer.values() for tensor in state.values()]
    return [x, positions, *kept, *reach]


def export_step(stack: Stack, x: Tensor, context: ForwardContext, states: States) -> Exported:
    """Trace the step; nothing is computed. Raises whatever torch does where it cannot, and components while traced."""
    inputs, has_reach = inputs_of(x, context, states), context.position_limit is not None
    traced = _Traced(stack, _places(states), has_reach=has_reach)
    weights = {name: w.detach() for name, w in (*traced.named_parameters(), *traced.named_buffers())}
    with torch.inference_mode(False), torch.no_grad():
        # Stand-ins, as tensors of inference mode cannot be written to while they are traced.
        like = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device) for t in inputs]
        sizes = [[Dim.AUTO if size > 1 else Dim.STATIC for size in t.shape] for t in like]
        fixed = {name: [Dim.STATIC] * w.dim() for name, w in weights.items()}
        with contextlib.redirect_stderr(io.StringIO()):  # on which torch prints the program as far as it got
            program = torch.export.export(_Called(traced), (like, weights), dynamic_shapes=(sizes, fixed), strict=False)
    return Exported(program, weights, len(inputs), has_reach, traced.emitted)


def reason(error: Exception) -> str:
    """What torch could not do with a step, and where the component's own code asks for it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    what = next((line.strip() for line in lines if " error: " in line), lines[0])
    not_theirs = [Path(torch.__file__).parent, Path(__file__).parents[1]]
    own = [
        f"{at.filename}:{at.lineno}"
        for at in traceback.extract_tb(error.__traceback__)
        if not _STDLIB.match(at.filename) and not any(folder in Path(at.filename).parents for folder in not_theirs)
    ]
    return f"{what}, at {own[-1]}" if own else what


_STDLIB = re.compile(re.escape(sysconfig.get_paths()["stdlib"]) + r"/(?!site-packages/)|<")


def _places(states: States) -> list[tuple[int, str, str]]:
    """Layer, sublayer and name of each of their tensors, in order."""
    layers = enumerate(states)
    return [(i, sublayer, name) for i, layer in layers for sublayer, state in layer.items() for name in state]


class _Traced(nn.Module):
    """The stack as a function of tensors."""

    def __init__(self, stack: Stack, places: Sequence[tuple[int, str, str]], *, has_reach: bool):
        super().__init__()
        self.stack = stack
        self.places = places
        self.has_reach = has_reach
        self.names: list[list[str]] = [[], [], []]

    def forward(self, x: Tensor, positions: Tensor, *others: Tensor) -> list[Tensor]:
        reach = others[-1].shape[0] if self.has_reach else None
        states: States = [{} for _ in self.stack.blocks]
        for (layer, sublayer, name), tensor in zip(self.places, others, strict=not self.has_reach):
            states[layer].setdefault(sublayer, {})[name] = tensor
        y, *more = self.stack.through(x, ForwardContext(positions, no_past=False, position_limit=reach), states)
        self.names = [list(named) for named in more]
        return [y, *(tensor for named in more for tensor in named.values())]

    def emitted(self, outputs: Sequence[Tensor]) -> SublayerOutput:
        y, *rest = outputs
        left = iter(rest)
        return SublayerOutput(y, *({name: next(left) for name in names} for names in self.names))


class _Called(nn.Module):
    """A module whose weights are arguments, so that code made of it holds none and need not be given other ones."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.hidden = [module]  # from torch, which would have its weights be the program's

    def forward(self, inputs: list[Tensor], weights: dict[str, Tensor]) -> list[Tensor]:
        outputs: list[Tensor] = torch.func.functional_call(self.hidden[0], weights, tuple(inputs))
        return outputs


@dataclass(frozen=True)
class Conditions:
    """What code takes for granted of its inputs: it was told, components decided so, or a compiler did.

    Compiled code does not ask. With inputs of other sizes it would read and write what is not theirs.
    """

    clauses: Sequence[str]
    dtypes: Sequence[torch.dtype]
    reach: int | None  # which input has it as its size

    def remaining(self, inputs: Sequence[Tensor]) -> Callable[[int | None], bool] | None:
        """What is left to ask of the reach where the other inputs are laid out like these; None: it is no use to ask.

        To ask all of it in each step would take as long as a layer's attention.
        """

        def known(match: re.Match[str]) -> str:
            index, method, dim = int(match[1]), match[2], match[3]
            if index == self.reach and method == "size":
                return "reach"
            value = getattr(inputs[index], method)()
            return str(value if dim is None else value[int(dim)])

        clauses = sorted({_OF_INPUT.sub(known, clause) for clause in self.clauses})
        fixed = [clause for clause in clauses if "reach" not in clause]
        if [t.dtype for t in inputs] != self.dtypes or not all(_evaluate(clause) for clause in fixed):
            return None
        asked = [f"({clause})" for clause in clauses if clause not in fixed] or ["True"]
        holds: Callable[[int | None], bool] = _evaluate(f"lambda reach: {' and '.join(asked)}")
        return holds

    def hold(self, inputs: Sequence[Tensor]) -> bool:
        """Whether they hold for these inputs."""
        holds = self.remaining(inputs)
        return holds is not None and holds(None if self.reach is None else inputs[self.reach].shape[0])


_OF_INPUT = re.compile(r"L\['(\d+)'\]\.(size|stride|storage_offset)\(\)(?:\[(\d+)\])?")


def _evaluate(text: str) -> Any:
    """Of what torch wrote, with the names that it uses there."""
    return eval(text, dict(SYMPY_INTERP))

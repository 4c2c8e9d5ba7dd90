"""A step of decoding as torch exports it: a program of tensors alone, and what it takes for granted of them."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import SYMPY_INTERP

from gptzoo.components.base import Emit, Step
from gptzoo.model.stack import Stack, States


class Exported(NamedTuple):
    """`Stack.through` for one token a row that goes on from a cache.

    The program takes what `inputs_of` returns, and then `weights`; the states among them it writes to. It returns the
    output and whatever else the step emits, which `emitted` puts together.
    """

    program: ExportedProgram
    weights: dict[str, Tensor]
    conditions: Conditions
    emitted: Callable[[Sequence[Tensor]], Emit]


def inputs_of(x: Tensor, step: Step, states: States) -> list[Tensor]:
    """What differs from step to step, as tensors.

    The reach is the size of the last of them: to the program it so is a number, and one that may change.
    """
    reach = [] if step.reach is None else [step.positions.new_empty(step.reach)]
    kept = [tensor for layer in states for state in layer.values() for tensor in state.values()]
    return [x, step.positions, *kept, *reach]


def export_step(stack: Stack, x: Tensor, step: Step, states: States) -> Exported:
    """Trace the step; nothing is computed. Raises whatever torch does where it cannot, and components while traced."""
    inputs, has_reach = inputs_of(x, step, states), step.reach is not None
    traced = _Traced(stack, _places(states), has_reach=has_reach)
    weights = {name: w.detach() for name, w in (*traced.named_parameters(), *traced.named_buffers())}
    with torch.inference_mode(False), torch.no_grad():
        # Stand-ins, as tensors of inference mode cannot be written to while they are traced.
        like = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device) for t in inputs]
        sizes = [[Dim.AUTO if size > 1 else Dim.STATIC for size in t.shape] for t in like]
        fixed = {name: [Dim.STATIC] * w.dim() for name, w in weights.items()}
        program = torch.export.export(_Called(traced), (like, weights), dynamic_shapes=(sizes, fixed), strict=False)
    return Exported(program, weights, Conditions(program, len(inputs), has_reach), traced.emitted)


def reason(error: Exception) -> str:
    """What torch could not do with a step, and where the component's own code asks for it."""
    what = str(error).strip().partition("\n")[0] or type(error).__name__
    home = Path(torch.__file__).parent
    places = [at for at in traceback.extract_tb(error.__traceback__) if home not in Path(at.filename).parents]
    own = [at for at in places if not at.filename.startswith(str(Path(__file__).parent))]
    return f"{what}, at {own[-1].filename}:{own[-1].lineno}" if own else what


def _places(states: States) -> list[tuple[int, str, str]]:
    """Layer, sublayer and name of each of their tensors, in order."""
    return [
        (i, sublayer, name) for i, layer in enumerate(states) for sublayer, state in layer.items() for name in state
    ]


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
        y, *more = self.stack.through(x, Step(positions, fresh=False, reach=reach), states)
        self.names = [list(named) for named in more]
        return [y, *(tensor for named in more for tensor in named.values())]

    def emitted(self, outputs: Sequence[Tensor]) -> Emit:
        y, *rest = outputs
        left = iter(rest)
        return Emit(y, *({name: next(left) for name in names} for names in self.names))


class _Called(nn.Module):
    """A module whose weights are arguments, so that code made of it holds none and need not be given other ones."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.hidden = [module]  # from torch, which would have its weights be the program's

    def forward(self, inputs: list[Tensor], weights: dict[str, Tensor]) -> list[Tensor]:
        outputs: list[Tensor] = torch.func.functional_call(self.hidden[0], weights, tuple(inputs))
        return outputs


class Conditions:
    """What a program takes for granted of its inputs, because it was told or because of how components decided.

    Compiled code does not ask. With inputs of other sizes it would read and write what is not theirs.
    """

    def __init__(self, program: ExportedProgram, n_inputs: int, has_reach: bool):
        told: list[Any] = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"][:n_inputs]
        self._dtypes = [value.dtype for value in told]
        env = told[0].fake_mode.shape_env
        self._clauses: list[str] = env.produce_guards(told, [str(i) for i in range(n_inputs)], ignore_static=False)
        self._reach = n_inputs - 1 if has_reach else None

    def left(self, inputs: Sequence[Tensor]) -> Callable[[int | None], bool] | None:
        """What is left to ask of the reach where the other inputs are laid out like these; None: it is no use to ask.

        To ask all of it in each step would take as long as a layer's attention.
        """

        def known(match: re.Match[str]) -> str:
            index, method, dim = int(match[1]), match[2], match[3]
            if index == self._reach and method == "size":
                return "reach"
            value = getattr(inputs[index], method)()
            return str(value if dim is None else value[int(dim)])

        clauses = sorted({_OF_INPUT.sub(known, clause) for clause in self._clauses})
        fixed = [clause for clause in clauses if "reach" not in clause]
        if [t.dtype for t in inputs] != self._dtypes or not all(_evaluate(clause) for clause in fixed):
            return None
        asked = [f"({clause})" for clause in clauses if clause not in fixed] or ["True"]
        holds: Callable[[int | None], bool] = _evaluate(f"lambda reach: {' and '.join(asked)}")
        return holds


_OF_INPUT = re.compile(r"L\['(\d+)'\]\.(size|stride|storage_offset)\(\)(?:\[(\d+)\])?")


def _evaluate(text: str) -> Any:
    """Of what torch wrote, with the names that it uses there."""
    return eval(text, dict(SYMPY_INTERP))

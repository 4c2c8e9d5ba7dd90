"""Export of a decode step as a program of tensors, and the guards under which the program is valid."""

from __future__ import annotations

import contextlib
import io
import re
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import SYMPY_INTERP

from gptzoo.components.context import ForwardContext
from gptzoo.components.sublayer import SublayerOutput
from gptzoo.model.architecture import States
from gptzoo.model.stack import Stack
from gptzoo.sampling.compile.step_inputs import step_inputs


@dataclass(frozen=True)
class ExportedStep:
    """`Stack.forward_blocks` of a single-token decode step as an exported program.

    The program takes the tensors of `step_inputs` and then `weights`, and updates the states among them in place. It
    returns the output and the auxiliary outputs as a flat list, from which `to_output` makes a `SublayerOutput`.
    """

    program: ExportedProgram
    weights: dict[str, Tensor]
    n_inputs: int
    has_position_limit: bool
    to_output: Callable[[Sequence[Tensor]], SublayerOutput]

    def guard_expressions(self) -> list[str]:
        """Return the guards on sizes and strides as Python expressions. Compiling the program adds guards."""
        values = self._input_values()
        names = [str(index) for index in range(self.n_inputs)]
        expressions: list[str] = values[0].fake_mode.shape_env.produce_guards(values, names, ignore_static=False)
        return expressions

    def guards(self, expressions: Sequence[str]) -> Guards:
        """Return the guards for code with these guard expressions."""
        position_limit_input = self.n_inputs - 1 if self.has_position_limit else None
        return Guards(expressions, [value.dtype for value in self._input_values()], position_limit_input)

    def _input_values(self) -> list[Any]:
        """Return the fake tensors that stand for the inputs in the program."""
        return [node.meta["val"] for node in self.program.graph.nodes if node.op == "placeholder"][: self.n_inputs]


def export_decode_step(stack: Stack, x: Tensor, context: ForwardContext, states: States) -> ExportedStep:
    """Trace a decode step without computing it. Raises any exception of torch or of a component that is traced."""
    inputs, has_position_limit = step_inputs(x, context, states), context.position_limit is not None
    traced = _TracedStack(stack, _state_paths(states), has_position_limit=has_position_limit)
    weights = {name: w.detach() for name, w in (*traced.named_parameters(), *traced.named_buffers())}
    with torch.inference_mode(False), torch.no_grad():
        # Inference tensors cannot be written to while they are traced, so others with the same layout stand in.
        examples = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device) for t in inputs]
        input_sizes = [[Dim.AUTO if size > 1 else Dim.STATIC for size in t.shape] for t in examples]
        weight_sizes = {name: [Dim.STATIC] * w.dim() for name, w in weights.items()}
        with contextlib.redirect_stderr(io.StringIO()):  # torch prints the partial program if it fails
            program = torch.export.export(
                _WeightsAsInputs(traced), (examples, weights), dynamic_shapes=(input_sizes, weight_sizes), strict=False
            )
    return ExportedStep(program, weights, len(inputs), has_position_limit, traced.to_output)


def failure_reason(error: Exception) -> str:
    """Return torch's message about a failed export or compilation, with the line of the component that caused it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    message = next((line.strip() for line in lines if " error: " in line), lines[0])
    excluded = [Path(torch.__file__).parent, Path(__file__).parents[1]]
    component_lines = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not _STDLIB.match(frame.filename) and not any(folder in Path(frame.filename).parents for folder in excluded)
    ]
    return f"{message}, at {component_lines[-1]}" if component_lines else message


_STDLIB = re.compile(re.escape(sysconfig.get_paths()["stdlib"]) + r"/(?!site-packages/)|<")


def _state_paths(states: States) -> list[tuple[int, str, str]]:
    """Return (layer, sublayer, name) of each state tensor, in the order of `step_inputs`."""
    layers = enumerate(states)
    return [(i, sublayer, name) for i, layer in layers for sublayer, state in layer.items() for name in state]


class _TracedStack(nn.Module):
    """A stack as a function from tensors to tensors."""

    def __init__(self, stack: Stack, state_paths: Sequence[tuple[int, str, str]], *, has_position_limit: bool):
        super().__init__()
        self.stack = stack
        self.state_paths = state_paths
        self.has_position_limit = has_position_limit
        self.auxiliary_names: list[list[str]] = [[], [], []]  # of losses, metrics and captures

    def forward(self, x: Tensor, positions: Tensor, *others: Tensor) -> list[Tensor]:
        position_limit = others[-1].shape[0] if self.has_position_limit else None
        states: States = [{} for _ in self.stack.blocks]
        for (layer, sublayer, name), tensor in zip(self.state_paths, others, strict=not self.has_position_limit):
            states[layer].setdefault(sublayer, {})[name] = tensor
        context = ForwardContext(positions, no_past=False, position_limit=position_limit)
        y, *auxiliary = self.stack.forward_blocks(x, context, states)
        self.auxiliary_names = [list(tensors) for tensors in auxiliary]
        return [y, *(tensor for tensors in auxiliary for tensor in tensors.values())]

    def to_output(self, outputs: Sequence[Tensor]) -> SublayerOutput:
        """Build the output of the stack from the flat list that `forward` returns."""
        y, *rest = outputs
        remaining = iter(rest)
        return SublayerOutput(y, *({name: next(remaining) for name in names} for names in self.auxiliary_names))


class _WeightsAsInputs(nn.Module):
    """A module that takes its weights as an argument, so that compiled code contains no weights."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.hidden = [module]  # in a list, so that torch does not register the module's weights

    def forward(self, inputs: list[Tensor], weights: dict[str, Tensor]) -> list[Tensor]:
        outputs: list[Tensor] = torch.func.functional_call(self.hidden[0], weights, tuple(inputs))
        return outputs


@dataclass(frozen=True)
class Guards:
    """Shape, stride and dtype guards under which compiled code is valid.

    Compiled code does not check its inputs. With inputs of other sizes it would access memory out of bounds.
    """

    expressions: Sequence[str]
    dtypes: Sequence[torch.dtype]
    position_limit_input: int | None  # index of the input whose size is the position limit

    def specialize(self, inputs: Sequence[Tensor]) -> Callable[[int | None], bool] | None:
        """Evaluate all guards except those on the position limit, and return a check of the position limit.

        Returns None if a guard fails for the layout of these inputs. Evaluating every guard at each step would take as
        long as the attention of one layer.
        """

        def value_of(match: re.Match[str]) -> str:
            index, method, dim = int(match[1]), match[2], match[3]
            if index == self.position_limit_input and method == "size":
                return "position_limit"
            value = getattr(inputs[index], method)()
            return str(value if dim is None else value[int(dim)])

        expressions = sorted({_INPUT_PROPERTY.sub(value_of, expression) for expression in self.expressions})
        fixed = [expression for expression in expressions if "position_limit" not in expression]
        if [t.dtype for t in inputs] != self.dtypes or not all(_evaluate(expression) for expression in fixed):
            return None
        remaining = [f"({expression})" for expression in expressions if expression not in fixed] or ["True"]
        check = _evaluate(f"lambda position_limit: {' and '.join(remaining)}")
        return cast(Callable[[int | None], bool], check)

    def accept(self, inputs: Sequence[Tensor]) -> bool:
        """Return True if all guards hold for these inputs."""
        check = self.specialize(inputs)
        index = self.position_limit_input
        return check is not None and check(None if index is None else inputs[index].shape[0])


_INPUT_PROPERTY = re.compile(r"L\['(\d+)'\]\.(size|stride|storage_offset)\(\)(?:\[(\d+)\])?")


def _evaluate(expression: str) -> object:
    """Evaluate a guard expression of torch, with the functions that torch uses in them."""
    return eval(expression, dict(SYMPY_INTERP))

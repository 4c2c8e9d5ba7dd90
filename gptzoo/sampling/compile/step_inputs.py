"""The tensors that change from one decode step to the next, which are the inputs of compiled code."""

from __future__ import annotations

from torch import Tensor

from gptzoo.components.context import ForwardContext
from gptzoo.model.architecture import States


def step_inputs(x: Tensor, context: ForwardContext, states: States) -> list[Tensor]:
    """Return x, positions, states and position limit as tensors, with the same layout for all steps of a batch size.

    The position limit is the size of the last tensor: that makes it a dynamic size of the exported program.
    """
    positions = context.positions.expand(x.shape[0], 1).contiguous()
    if positions.storage_offset():
        positions = positions.clone()
    limit = [] if context.position_limit is None else [positions.new_empty(context.position_limit)]
    state_tensors = [tensor for layer in states for state in layer.values() for tensor in state.values()]
    return [x, positions, *state_tensors, *limit]

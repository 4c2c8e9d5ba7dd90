"""Export: torch.export turns a decode step into one program for all batch sizes and positions."""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo.components.context import ForwardContext
from gptzoo.model.architecture import States
from gptzoo.model.stack import Stack
from gptzoo.sampling.compile.step_inputs import step_inputs
from gptzoo.sampling.state_rows import clone_states
from gptzoo.testing.compare import TOLERANCE, relative_difference
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed, Skipped

_SIZES = (  # batch size, past tokens, maximum length
    *((3, 4, 16), (3, 5, 16), (2, 4, 11), (5, 9, 13)),
    *((2, 33, 40), (9, 64, 70), (2, 128, 140)),
)
_CONTEXT_LENGTH = 140


def check_exporting(subject: ModelPartUnderTest) -> None:
    """Check that `torch.export` makes one program of a decode step for all batch sizes and positions."""
    from gptzoo.sampling.compile.export import export_decode_step, failure_reason

    model = subject.model(dtype=torch.float64, context_length=_CONTEXT_LENGTH)
    if not isinstance(model, Stack):
        raise Skipped("it is not made of blocks")
    exported = None
    for batch_size, length, max_length in _SIZES:
        x, context, states = _decode_step_inputs(subject, model, batch_size, length, max_length)
        if exported is None:
            try:
                exported = export_decode_step(model, x, context, states)
            except Exception as error:
                raise Failed(f"torch.export cannot export a decode step: {failure_reason(error)}") from None
        inputs = step_inputs(x, context, clone_states(states))
        if not exported.guards(exported.guard_expressions()).accept(inputs):
            raise Failed(
                f"a decode step exported for {_SIZES[0][0]} rows at position {_SIZES[0][1]} is not valid for "
                f"{batch_size} rows at position {length} of {max_length}: a size became a Python number, as by "
                "len(x), or a branch depends on it"
            )
        with torch.no_grad():
            y, *auxiliary = exported.program.module()(inputs, exported.weights)
            expected = model.forward_blocks(x, context, states)
        setting = f"exported, a decode step of {batch_size} rows"
        if (difference := relative_difference(y, expected.y).max()) > TOLERANCE:
            raise Failed(f"{setting} gives another output, which differs by {difference:.2g}")
        expected_auxiliary = [
            tensor for outputs in (expected.losses, expected.metrics, expected.captures) for tensor in outputs.values()
        ]
        expected_states = step_inputs(x, context, states)[2:-1]
        actual = [*inputs[2:-1], *auxiliary]
        for tensor, expected_tensor in zip(actual, [*expected_states, *expected_auxiliary], strict=True):
            if relative_difference(tensor.double(), expected_tensor.double()).max() > TOLERANCE:
                raise Failed(f"{setting} leaves another state, or returns other auxiliary outputs")


def _decode_step_inputs(
    subject: ModelPartUnderTest, model: Stack, batch_size: int, length: int, max_length: int
) -> tuple[Tensor, ForwardContext, States]:
    """Return the inputs of a decode step after a prefill of `length` tokens."""
    with torch.no_grad():
        prefill = model.prefill(subject.tokens(batch_size, length).tolist(), max_length - length)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch_size, 1, TINY_MODEL["d_model"], generator=generator, dtype=torch.float64)
    positions = prefill.positions.expand(batch_size, 1).clone()
    return x, ForwardContext(positions, no_past=False, position_limit=length + 1), prefill.states

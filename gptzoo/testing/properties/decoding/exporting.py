"""A step of decoding is a program of tensors, the same whatever their sizes, and computes what the model does."""

from __future__ import annotations

import torch

from gptzoo.components.context import ForwardContext
from gptzoo.model.stack import Stack, States
from gptzoo.sampling.engine.state_rows import copied
from gptzoo.testing.compare import CLOSE, distance
from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed, Skipped

# Rows, tokens that each has read, and for how many there is room.
SIZES = ((3, 4, 16), (3, 5, 16), (2, 4, 11), (5, 9, 13))


def exporting(subject: PartSubject) -> None:
    """`torch.export` takes a step of decoding as one program for all batches and positions; it computes the same."""
    from gptzoo.sampling.compile.export import export_step, inputs_of, reason

    model = subject.model(dtype=torch.float64)
    if not isinstance(model, Stack):
        raise Skipped("it is not made of blocks")
    exported = None
    for n_rows, length, room in SIZES:
        x, context, states = _going_on(subject, model, n_rows, length, room)
        if exported is None:
            try:
                exported = export_step(model, x, context, states)
            except Exception as error:
                raise Failed(f"torch.export does not take a step of decoding: {reason(error)}") from None
        inputs = inputs_of(x, context, copied(states))
        if not exported.conditions(exported.clauses()).hold(inputs):
            raise Failed(
                f"exported with {SIZES[0][0]} rows at position {SIZES[0][1]}, a step is another program than with "
                f"{n_rows} rows at position {length} of {room}: a size became a Python number, as by len(x), "
                "or was decided about"
            )
        with torch.no_grad():
            y, *emitted = exported.program.module()(inputs, exported.weights)
            expected = model.through(x, context, states)
        what = f"exported, a step of {n_rows} rows"
        if (difference := distance(y, expected.y).max()) > CLOSE:
            raise Failed(f"{what} computes otherwise, off by {difference:.2g}")
        more = [tensor for named in expected[1:] for tensor in named.values()]
        for one, other in zip([*inputs[2:-1], *emitted], [*inputs_of(x, context, states)[2:-1], *more], strict=True):
            if distance(one.double(), other.double()).max() > CLOSE:
                raise Failed(f"{what} leaves another state, or emits something else")


def _going_on(
    subject: PartSubject, model: Stack, n_rows: int, length: int, room: int
) -> tuple[torch.Tensor, ForwardContext, States]:
    """What goes into a step of rows that have read so many tokens."""
    with torch.no_grad():
        primed = model.prefill(subject.tokens(n_rows, length).tolist(), room - length)
    x = torch.randn(n_rows, 1, HOST["d_model"], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    positions = primed.positions.expand(n_rows, 1).clone()
    return x, ForwardContext(positions, no_past=False, position_limit=length + 1), primed.states

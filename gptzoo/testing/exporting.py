"""A step of decoding is a program of tensors, the same whatever their sizes, and computes what the model does."""

from __future__ import annotations

import torch

from gptzoo.components.base import Step
from gptzoo.model.stack import Stack, States
from gptzoo.sampling.states import copied
from gptzoo.testing.compare import CLOSE, distance
from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed, Skipped

SIZES = ((3, 4), (3, 5), (2, 4), (5, 9))  # rows, and tokens that each has read


def exporting(subject: PartSubject) -> None:
    """`torch.export` takes a step of decoding as one program for all batches and positions; it computes the same."""
    from gptzoo.sampling.exported import export_step, inputs_of, reason

    model = subject.model(dtype=torch.float64)
    if not isinstance(model, Stack):
        raise Skipped("it is not made of blocks")
    exported = None
    for n_rows, length in SIZES:
        x, step, states = _going_on(subject, model, n_rows, length)
        if exported is None:
            try:
                exported = export_step(model, x, step, states)
            except Exception as error:
                raise Failed(f"torch.export does not take a step of decoding: {reason(error)}") from None
        inputs = inputs_of(x, step, copied(states))
        holds = exported.conditions.left(inputs)
        if holds is None or not holds(step.reach):
            raise Failed(
                f"exported with {SIZES[0][0]} rows at position {SIZES[0][1]}, a step is another program than with "
                f"{n_rows} rows at position {length}: a size became a Python number, as by len(x), or was decided about"
            )
        with torch.no_grad():
            actual = exported.program.module()(inputs, exported.weights)[0]
            expected = model.through(x, step, states).y
        if (difference := distance(actual, expected).max()) > CLOSE:
            raise Failed(f"exported, a step of {n_rows} rows computes otherwise, off by {difference:.2g}")


def _going_on(subject: PartSubject, model: Stack, n_rows: int, length: int) -> tuple[torch.Tensor, Step, States]:
    """What goes into a step of rows that have read so many tokens."""
    with torch.no_grad():
        primed = model.prime(subject.tokens(n_rows, length).tolist(), HOST["context_length"] - length)
    x = torch.randn(n_rows, 1, HOST["d_model"], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    positions = primed.positions.expand(n_rows, 1).clone()
    return x, Step(positions, fresh=False, reach=length + 1), primed.states

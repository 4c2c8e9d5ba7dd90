"""The weights that a model is evaluated with, if they differ from those that the optimizer trains.

A schedule-free optimizer computes gradients at one point and evaluates the model at another, an average. Evaluations,
hooks of evaluations and the model in a checkpoint have the weights for evaluation. Training continues from exactly the
values that it had, which a checkpoint stores as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def swapped_in(
    parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor] | None
) -> Iterator[Mapping[str, Tensor] | None]:
    """Put values into the parameters of these names for the length of the block, then restore the parameters.

    Yields the trained values of the parameters. If `values` is None, nothing is replaced, and it yields None.
    """
    if values is None:
        yield None
        return
    trained = {name: parameters[name].detach().clone() for name in values}
    try:
        _copy_into(parameters, values)
        yield trained
    finally:
        _copy_into(parameters, trained)


@torch.no_grad()
def _copy_into(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)

"""Whether an optimizer that nobody here has heard of updates sharded weights as it updates whole ones: it is tried."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gptzoo.checkpoint.sharded import laid_out_as, whole
from gptzoo.errors import InputError
from gptzoo.spec.run import RunSpec

_SHAPES = {"embed.weight": (7, 4), "blocks.0.ffn.up.weight": (6, 4), "blocks.0.ffn.up.bias": (6,)}
_STEPS = 2  # the second finds a state
_TOLERANCE = 0.1  # of the update: what rounding in bf16 makes of it; another algorithm is off by far more


def refuse_if_not_shardable(spec: RunSpec, like: Any) -> None:
    """Make two small updates of whole weights, and of weights that are sharded as `like` is, and compare.

    All processes must call it. Raises InputError where torch cannot do what the optimizer asks for, or does something
    else.
    """
    device = like.device
    try:
        expected = _updated(spec, lambda tensor: tensor.to(device))
        found = _updated(spec, lambda tensor: laid_out_as(like, tensor))
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        raise _refusal(
            spec, f"torch cannot do on sharded weights what it does: {str(error).splitlines()[0]}"
        ) from error
    for name, weights in expected.items():
        if (found[name] - weights).norm() > _TOLERANCE * (weights - _values()[name].to(device)).norm():
            raise _refusal(spec, "it makes of sharded weights something else than of whole ones")


def _updated(spec: RunSpec, place: Any) -> dict[str, Tensor]:
    parameters = {name: nn.Parameter(place(values)) for name, values in _values().items()}
    optimizer = spec.optimizer.build().create(parameters)
    for step in range(_STEPS):
        for name, gradient in _values(1 + step).items():
            parameters[name].grad = place(gradient)
        optimizer.step()
    return {name: whole(parameter.detach()) for name, parameter in parameters.items()}


def _values(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in _SHAPES.items()}


def _refusal(spec: RunSpec, why: str) -> InputError:
    return InputError(
        f"{spec.name}: $.optimizer: {spec.optimizer.type!r} does not go with parallel.shard {spec.parallel.shard}: "
        f"{why}. Take another optimizer, or set shard to 1"
    )

"""Whether an optimizer that nobody here has heard of updates sharded weights as it updates whole ones: it is tried."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gptzoo.checkpoint.sharded_tensors import distribute_like, full_tensor
from gptzoo.errors import InputError
from gptzoo.spec.run import RunSpec

_SHAPES = {
    "embed.weight": (7, 4),
    "blocks.0.ffn.up.weight": (6, 4),
    "blocks.0.ffn.up.bias": (6,),
    "blocks.0.ffn.down.weight": (4, 6),
}
_STEPS = 2  # the second finds a state
_TOLERANCE = 0.1  # of the update: what rounding in bf16 makes of it; another algorithm is off by far more


def refuse_if_not_shardable(spec: RunSpec, like: Any) -> None:
    """Make two small updates of whole weights, and of weights that are sharded as `like` is, and compare.

    Where processes share products, they are cut as in Megatron: up by rows, down by columns.
    All processes must call it. Raises InputError where torch cannot do what the optimizer asks for, or does something
    else.
    """
    device = like.device
    try:
        expected = _updated(spec, lambda name, tensor: tensor.to(device))
        found = _updated(spec, partial(_shared_out, like) if spec.parallel.tensor > 1 else partial(_laid_out, like))
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        raise _refusal(
            spec, f"torch cannot do on sharded weights what it does: {str(error).splitlines()[0].rstrip('.')}"
        ) from error
    for name, weights in expected.items():
        if (found[name] - weights).norm() > _TOLERANCE * (weights - _values()[name].to(device)).norm():
            raise _refusal(spec, "it makes of sharded weights something else than of whole ones")


def _updated(spec: RunSpec, place: Any) -> dict[str, Tensor]:
    parameters = {name: nn.Parameter(place(name, values)) for name, values in _values().items()}
    optimizer = spec.optimizer.build().create(parameters)
    for step in range(_STEPS):
        for name, gradient in _values(1 + step).items():
            parameters[name].grad = place(name, gradient)
        optimizer.step()
    return {name: full_tensor(parameter.detach()) for name, parameter in parameters.items()}


def _laid_out(like: Any, name: str, tensor: Tensor) -> Tensor:
    return distribute_like(like, tensor)


def _shared_out(like: Any, name: str, tensor: Tensor) -> Tensor:
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    cut = Shard(0) if ".up." in name else Shard(1) if ".down." in name else Replicate()
    return distribute_tensor(tensor, like.device_mesh, [cut], src_data_rank=None)


def _values(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in _SHAPES.items()}


def _refusal(spec: RunSpec, why: str) -> InputError:
    name = "shard" if spec.parallel.tensor == 1 else "tensor"
    return InputError(
        f"{spec.name}: $.optimizer: {spec.optimizer.type!r} does not go with parallel.{name} "
        f"{getattr(spec.parallel, name)}: {why}. Take another optimizer, or set {name} to 1"
    )

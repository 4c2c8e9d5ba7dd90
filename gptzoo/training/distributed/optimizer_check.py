"""A check that an optimizer updates sharded weights in the same way as full ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gptzoo.checkpoint.sharded_tensors import distribute_like, full_tensor
from gptzoo.components.part import FusedBlocks
from gptzoo.errors import InputError
from gptzoo.spec.run import RunSpec
from gptzoo.training.named_parameters import NamedParameters

_SHAPES = {
    "embed.weight": (7, 4),
    "blocks.0.attention.up.weight": (6, 4),  # fused
    "blocks.0.ffn.up.weight": (6, 4),
    "blocks.0.ffn.up.bias": (6,),
    "blocks.0.ffn.down.weight": (4, 6),
}
_BLOCKS = {"blocks.0.attention.up.weight": FusedBlocks((4, 2))}
_STEPS = 2  # the second step uses the optimizer state of the first
_TOLERANCE = 0.1  # relative to the update: more than rounding to bf16, less than another algorithm


def check_optimizer_on_shards(spec: RunSpec, parameter: Tensor) -> None:
    """Update a few small weights, full and split, and compare. `parameter` gives the device mesh and the placements.

    For tensor parallelism the weights are split as in Megatron: `up` by rows, `down` by columns. All ranks must call
    it. Raises InputError if torch cannot run the optimizer on DTensors, or if the results differ.
    """
    device = parameter.device

    def split(name: str, tensor: Tensor) -> Tensor:
        return (
            _split_as_megatron(parameter, name, tensor)
            if spec.parallel.tensor > 1
            else distribute_like(parameter, tensor)
        )

    try:
        expected = _train(spec, lambda name, tensor: tensor.to(device))
        actual = _train(spec, split)
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        message = str(error).splitlines()[0].rstrip(".")
        raise _error(spec, f"torch cannot run it on sharded weights ({message})") from error
    for name, weights in expected.items():
        update = weights - _random_values()[name].to(device)
        if (actual[name] - weights).norm() > _TOLERANCE * update.norm():
            raise _error(spec, "it updates sharded weights differently from full ones")


def _train(spec: RunSpec, place: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
    """Return the weights after a few steps of the spec's optimizer on tensors that `place` has placed."""
    parameters = {name: nn.Parameter(place(name, values)) for name, values in _random_values().items()}
    optimizer = spec.optimizer.build().create(NamedParameters(parameters, _BLOCKS))
    for step in range(_STEPS):
        for name, gradient in _random_values(1 + step).items():
            parameters[name].grad = place(name, gradient)
        optimizer.step()
    return {name: full_tensor(parameter.detach()) for name, parameter in parameters.items()}


def _split_as_megatron(parameter: Tensor, name: str, tensor: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    assert isinstance(parameter, DTensor)
    placement = Shard(0) if ".up." in name else Shard(1) if ".down." in name else Replicate()
    return distribute_tensor(tensor, parameter.device_mesh, [placement], src_data_rank=None)


def _random_values(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in _SHAPES.items()}


def _error(spec: RunSpec, reason: str) -> InputError:
    name = "shard" if spec.parallel.tensor == 1 else "tensor"
    return InputError(
        f"{spec.name}: $.optimizer: {spec.optimizer.type!r} does not support parallel.{name} "
        f"{getattr(spec.parallel, name)}: {reason}. Choose another optimizer, or set {name} to 1"
    )

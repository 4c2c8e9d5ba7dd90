"""Parameters for optimizers under test: of a small model, of many shapes, and many of them; and steps of training."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from gptzoo.component import Config
from gptzoo.model.build import build
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.training.named_parameters import NamedParameters
from gptzoo.training.optim.group_state import remember_groups
from gptzoo.utils.seeds import seed_all_generators

Parameters = dict[str, nn.Parameter]

_SHAPES = {
    "scalar": (),
    "one": (1,),
    "vector": (5,),
    "long_vector": (300,),
    "matrix": (6, 4),
    "wide": (3, 70),
    "tall": (70, 3),
    "row": (1, 8),
    "column": (8, 1),
    "kernel": (4, 3, 5),
    "image": (2, 3, 4, 2),
    "large": (130, 66),  # over 8,192 numbers
}
_MANY = 35  # matrices and vectors of one shape


def model_parameters() -> Parameters:
    """Return the parameters of a model of one layer: matrices, fused ones too, vectors and embeddings."""
    return NamedParameters.of(build({**TINY_MODEL, "n_layers": 1}))


def many_parameters(dtype: torch.dtype = torch.float32, n_equal: int = _MANY) -> Parameters:
    """Return parameters of all shapes, inside and outside of blocks, and `n_equal` of equal shapes."""
    generator = torch.Generator().manual_seed(5)
    shapes = {f"blocks.{layer}.ffn.{name}": shape for layer in range(2) for name, shape in _SHAPES.items()}
    shapes |= {f"embed.{name}": shape for name, shape in _SHAPES.items() if name != "scalar"}
    shapes |= {f"blocks.{layer}.norm.weight": (6,) for layer in range(n_equal)}
    shapes |= {f"blocks.{layer}.attention.qkv.weight": (4, 6) for layer in range(n_equal)}
    parameters = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    parameters["blocks.0.ffn.transposed"] = torch.randn(7, 6, generator=generator).T  # it is not contiguous
    return {name: nn.Parameter(value.to(dtype)) for name, value in parameters.items()}


class OptimizerRun:
    """An optimizer that trains parameters towards random values, with a learning rate that falls."""

    def __init__(self, config: Config, parameters: Parameters, n_steps: int = 200):
        self.parameters, self.n_steps = parameters, n_steps
        self.component = config.build()
        self.optimizer = remember_groups(self.component.create(parameters))
        self.peak_lrs = [group["lr"] for group in self.optimizer.param_groups]
        self.targets = {name: _target(name, parameter) for name, parameter in parameters.items()}

    def train(self, steps: Iterable[int], without: Collection[str] = (), zero: Collection[str] = ()) -> None:
        """Take steps. Parameters in `without` have no gradient, and those in `zero` have a gradient of zeros."""
        for step in steps:
            for name, parameter in self.parameters.items():
                target = self.targets[name]
                noise = 0.1 * target.flatten().roll(step + 1).view(target.shape)
                gradient = parameter.detach() - target + noise
                parameter.grad = None if name in without else gradient * (name not in zero)
            for group, peak_lr in zip(self.optimizer.param_groups, self.peak_lrs, strict=True):
                group["lr"] = peak_lr * (1 - step / (2 * self.n_steps))
            seed_all_generators(step)  # as in a run, where the random numbers of a step are a function of it
            self.optimizer.step()

    def evaluation_weights(self) -> Mapping[str, Tensor] | None:
        """Return the weights that the model is evaluated with, or None if they are the trained ones."""
        values: Mapping[str, Tensor] | None = self.component.evaluation_weights(self.optimizer, self.parameters)
        return values

    def loss(self) -> float:
        """Return the sum of the squared distances to the targets."""
        distances = (p.detach().double() - self.targets[name].double() for name, p in self.parameters.items())
        return sum(float(distance.square().sum()) for distance in distances)

    def values(self) -> dict[str, Tensor]:
        """Return copies of the values of the parameters."""
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}


def _target(name: str, parameter: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    return torch.randn(parameter.shape, generator=generator).to(parameter.dtype)

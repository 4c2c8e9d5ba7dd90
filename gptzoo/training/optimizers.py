"""The kind `optimizer`: which parameters get which update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, Strict
from torch import nn

from gptzoo.component import Component, Config

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class Optimizer(Component):
    """Base of the kind. `create` makes a torch optimizer, whose state the trainer saves by parameter name."""

    kind = "optimizer"

    class Config(Component.Config):
        lr: PositiveFloat
        """Peak learning rate; the schedule scales it."""

    config: Any

    def __init__(self, config: Config):
        self.config = config

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        """An optimizer of the named parameters; each of its groups starts with its own peak `lr`."""
        raise TypeError(f"{type(self).__name__} does not implement create")


def decay_groups(parameters: Mapping[str, nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; vectors (biases and the scales of norms) do not."""
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class AdamW(Optimizer):
    """Adam with decoupled weight decay, of matrices only."""

    name = "adamw"
    paper = "Loshchilov and Hutter 2017, Decoupled Weight Decay Regularization, arXiv:1711.05101"

    class Config(Optimizer.Config):
        lr: PositiveFloat = 1e-3
        betas: Annotated[tuple[Beta, Beta], Strict(False)] = (0.9, 0.95)
        """Decay of the running means of the gradient and of its square."""
        eps: PositiveFloat = 1e-8
        """Added to the root of the mean square."""
        weight_decay: NonNegativeFloat = 0.1
        """Of matrices, embeddings included; biases and norms do not decay."""

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        groups = decay_groups(parameters, self.config.weight_decay)
        return torch.optim.AdamW(groups, lr=self.config.lr, betas=self.config.betas, eps=self.config.eps, fused=True)

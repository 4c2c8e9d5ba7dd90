"""The kind `optimizer`, and those that torch has: AdamW, SGD, Adafactor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, Strict, ValidationError, model_validator
from torch import nn

from gptzoo.checkpoint.sharded_tensors import is_dtensor
from gptzoo.component import Component, Config, error_at
from gptzoo.training.optim.param_groups import decay_groups as decay_groups
from gptzoo.training.optim.param_groups import lr_groups, lr_scales

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Betas = Annotated[tuple[Beta, Beta], Strict(False)]


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


def describe_optimizer(optimizer: torch.optim.Optimizer) -> str:
    """The algorithms that it has, each with whether one kernel makes the whole update: `Muon + AdamW (fused)`."""
    fused: dict[str, bool] = {}
    for group in optimizer.param_groups:
        name = group.get("algorithm", type(optimizer).__name__)
        fused[name] = fused.get(name, True) and bool(group.get("fused"))
    return " + ".join(f"{name} (fused)" if whole else name for name, whole in fused.items())


class GroupedOptimizer(Optimizer):
    """Base of those in which matrices decay and vectors do not, and the learning rate may fall from block to block."""

    class Config(Optimizer.Config):
        weight_decay: NonNegativeFloat
        """Of matrices, embeddings included, apart from the gradient; biases and norms do not decay."""
        layer_lr_decay: float = Field(1.0, gt=0.0, le=1.0)
        """Learning rate of each block as a fraction of the next one's. The last block and the head have the full one,
        the embeddings the lowest."""

    def groups(self, parameters: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
        """The groups that torch's optimizers take, each with its `lr` and `weight_decay`."""
        scales = lr_scales(parameters, self.config.layer_lr_decay)
        return lr_groups(parameters, self.config.lr, self.config.weight_decay, scales)


class AdamW(GroupedOptimizer):
    """Adam with decoupled weight decay, of matrices only."""

    name = "adamw"
    paper = "Loshchilov and Hutter 2017, Decoupled Weight Decay Regularization, arXiv:1711.05101"

    class Config(GroupedOptimizer.Config):
        lr: PositiveFloat = 1e-3
        weight_decay: NonNegativeFloat = 0.1
        betas: Betas = (0.9, 0.95)
        """Decay of the running means of the gradient and of its square."""
        eps: PositiveFloat = 1e-8
        """Added to the root of the mean square."""

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        config = self.config
        return torch.optim.AdamW(self.groups(parameters), lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


class SGD(GroupedOptimizer):
    """Stochastic gradient descent with momentum."""

    name = "sgd"
    paper = "Sutskever et al. 2013, On the importance of initialization and momentum in deep learning"

    class Config(GroupedOptimizer.Config):
        lr: PositiveFloat = 0.1
        weight_decay: NonNegativeFloat = 0.0
        """Of matrices, embeddings included, added to the gradient; biases and norms do not decay."""
        momentum: Beta = 0.9
        """How much of the previous update is kept."""
        nesterov: bool = False
        """Look ahead along the momentum before the update is made."""

        @model_validator(mode="after")
        def _nesterov_needs_momentum(self) -> SGD.Config:
            if self.nesterov and not self.momentum:
                reason = "needs a momentum above 0"
                raise ValidationError.from_exception_data("sgd", [error_at(reason, "nesterov", value=True)])
            return self

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        config = self.config
        fused = not any(map(is_dtensor, parameters.values()))  # torch has no kernel for sharded weights
        return torch.optim.SGD(
            self.groups(parameters), lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused
        )


class Adafactor(GroupedOptimizer):
    """Keeps of the mean square of a matrix only the sums of its rows and columns, and scales updates to the weights."""

    name = "adafactor"
    paper = "Shazeer and Stern 2018, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, arXiv:1804.04235"

    class Config(GroupedOptimizer.Config):
        lr: PositiveFloat = 1e-2
        """Peak learning rate, relative to the size of the weights; the schedule scales it. It is never above
        1/sqrt(step)."""
        weight_decay: NonNegativeFloat = 0.0
        beta2_decay: float = Field(-0.8, lt=0.0)
        """Step t keeps 1 - t^beta2_decay of the running mean of the squared gradient."""
        clip_threshold: float = Field(1.0, ge=1.0)
        """Largest root mean square of an update before it is scaled to the weights."""
        min_scale: PositiveFloat = 1e-3
        """Root mean square that weights are taken to have at least, so that zeros can move."""

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        config = self.config
        return torch.optim.Adafactor(
            self.groups(parameters),
            lr=config.lr,
            beta2_decay=config.beta2_decay,
            eps=(None, config.min_scale),
            d=config.clip_threshold,
        )

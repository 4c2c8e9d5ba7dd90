"""Lion: steps of one size in the direction of a sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import nn

from gptzoo.training.optim.optimizers import Betas, GroupedOptimizer


class Lion(GroupedOptimizer):
    """Moves every weight by the learning rate, in the sign of a mean of gradients; keeps half the state of Adam."""

    name = "lion"
    paper = "Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675"

    class Config(GroupedOptimizer.Config):
        lr: PositiveFloat = 1e-4
        """Peak learning rate; the schedule scales it. The paper advises a third to a tenth of AdamW's."""
        weight_decay: NonNegativeFloat = 1.0
        """Of matrices, embeddings included, apart from the gradient; biases and norms do not decay. The paper advises
        as many times AdamW's as `lr` is below it."""
        betas: Betas = (0.9, 0.99)
        """How much of the running mean of the gradient counts in the update, and how much of it is kept."""

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return _Lion(self.groups(parameters), {"betas": self.config.betas})


class _Lion(torch.optim.Optimizer):
    """Torch has none of its own."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: nn.Parameter, grad: torch.Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
        mean, (beta1, beta2), lr = state["exp_avg"], group["betas"], group["lr"]
        parameter.mul_(1 - lr * group["weight_decay"])
        parameter.add_(mean.lerp(grad, 1 - beta1).sign_(), alpha=-lr)
        mean.lerp_(grad, 1 - beta2)

"""Lion, an optimizer whose update is the sign of a running mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import nn

from gptzoo.training import eager_optimizers
from gptzoo.training.optim.optimizers import Betas, GroupedOptimizer


class Lion(GroupedOptimizer):
    """Lion: the update is the learning rate times the sign of the momentum. Its state is half as large as Adam's."""

    name = "lion"
    paper = "Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675"
    width_rule = "adam"

    class Config(GroupedOptimizer.Config):
        lr: PositiveFloat = 1e-4
        """Peak learning rate, scaled by the schedule. The paper advises a third to a tenth of AdamW's."""
        weight_decay: NonNegativeFloat = 1.0
        """Decoupled weight decay of matrices, embeddings included; biases and norms have none. If `lr` is k times
        smaller than AdamW's, the Lion paper advises a weight decay k times larger."""
        betas: Betas = (0.9, 0.99)
        """Decay rates of the running mean of the gradient: the first for the update, the second for the stored mean."""

    config: Config

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return _Lion(self.groups(parameters), {"betas": self.config.betas})


class _Lion(eager_optimizers.EagerOptimizer):
    """The torch optimizer; torch has no Lion of its own."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
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

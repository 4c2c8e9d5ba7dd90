"""The kind `router_balance`: what keeps a router from sending all tokens to the same few experts."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor

import gptzoo


class RouterBalance(gptzoo.Part):
    """Base of the kind. It changes by which scores experts are chosen, adds a loss, or both."""

    kind = "router_balance"

    def __init__(self, config: Any, n_experts: int):
        super().__init__(config)

    def for_choice(self, scores: Tensor) -> Tensor:
        """Scores (N, E) -> what the experts are chosen by, (N, E); the weights of the chosen stay those of `scores`."""
        return scores

    def losses(self, load: Tensor, mean_share: Tensor) -> dict[str, Tensor]:
        """Scalars to add to the loss; `load` (E,) is where tokens went, `mean_share` (E,) what the router gave each.

        Both sum to 1. Gradients flow through `mean_share`: how often an expert is chosen has none.
        """
        return {}

    def after_optimizer_step(self, load: Tensor) -> None:
        """Learn from the load (E,) of a training step, after the optimizer's step."""


class LossBalance(RouterBalance):
    """Adds coefficient * E * sum(load * mean router probability), which is coefficient where all are busy alike."""

    name = "loss"
    paper = "Fedus et al. 2021, Switch Transformers, arXiv:2101.03961, section 2.2"

    class Config(RouterBalance.Config):
        coefficient: PositiveFloat = 0.01
        """How much it counts beside the cross-entropy."""

    def losses(self, load: Tensor, mean_share: Tensor) -> dict[str, Tensor]:
        return {"balance": self.config.coefficient * len(load) * (load * mean_share).sum()}


class BiasBalance(RouterBalance):
    """Adds a bias to each expert's score for the choice alone, and after each step moves it against the load."""

    name = "bias"
    paper = "Wang et al. 2024, Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts, arXiv:2408.15664"

    class Config(RouterBalance.Config):
        rate: PositiveFloat = 0.001
        """By how much a bias rises after a step in which the expert had less than the mean load, and else falls."""

    bias: Tensor

    def __init__(self, config: Any, n_experts: int):
        super().__init__(config, n_experts)
        self.register_buffer("bias", torch.empty(n_experts, dtype=torch.float32))

    def initialise(self, rng: Any) -> None:
        self.bias.zero_()

    def for_choice(self, scores: Tensor) -> Tensor:
        return scores + self.bias

    def after_optimizer_step(self, load: Tensor) -> None:
        self.bias.add_(torch.sign(load.mean() - load).to(self.bias), alpha=self.config.rate)

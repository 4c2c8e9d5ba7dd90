"""The kind `router_balance`: load balancing, which keeps a router from sending all tokens to the same few experts."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import gptzoo


class RouterBalance(gptzoo.Part):
    """Base class of the kind `router_balance`: changes the scores that select experts, adds a loss, or both."""

    kind = "router_balance"

    class Config(gptzoo.Part.Config):
        """The options of a router balance."""

        def build(self, n_experts: int) -> RouterBalance:
            """Construct the balance for a router over `n_experts` experts."""
            balance: RouterBalance = super().build(n_experts)
            return balance

    config: Config

    def __init__(self, config: Config, n_experts: int):
        super().__init__(config)

    def selection_scores(self, scores: Tensor) -> Tensor:
        """Return the scores (N, E) by which experts are selected. Their weights still come from `scores`, (N, E)."""
        return scores

    def losses(self, load: Tensor, mean_share: Tensor) -> dict[str, Tensor]:
        """Return scalars to add to the training loss.

        `load` (E,) is the fraction of tokens that each expert received. `mean_share` (E,) is the mean of the normalised
        router scores. Both sum to 1. Only `mean_share` has a gradient, because the selection of experts has none.
        """
        return {}

    def after_optimizer_step(self, load: Tensor) -> None:
        """Update the balance from the load (E,) of a training step, after the optimizer step."""


class LossBalance(RouterBalance):
    """Load-balancing loss: coefficient * E * sum(load * mean router probability), equal to coefficient at even load."""

    name = "loss"
    paper = "Fedus et al. 2021, Switch Transformers, arXiv:2101.03961, section 2.2"

    class Config(RouterBalance.Config):
        coefficient: float = Field(default=0.01, ge=1e-8, le=1e4)
        """Weight of the balance loss relative to the cross-entropy. Below 1e-8 it balances nothing."""

    config: Config

    def losses(self, load: Tensor, mean_share: Tensor) -> dict[str, Tensor]:
        return {"balance": self.config.coefficient * len(load) * (load * mean_share).sum()}


class BiasBalance(RouterBalance):
    """Loss-free load balancing: a bias per expert that affects only the selection, lowered when its load is high."""

    name = "bias"
    paper = "Wang et al. 2024, Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts, arXiv:2408.15664"

    class Config(RouterBalance.Config):
        training_only = frozenset({"rate"})
        rate: float = Field(default=0.001, ge=1e-8, le=1e4)
        """Change of a bias per training step: up if the expert's load was below the mean, down if it was above. Below
        1e-8 it balances nothing."""

    config: Config
    bias: Tensor

    def __init__(self, config: Config, n_experts: int):
        super().__init__(config, n_experts)
        self.register_buffer("bias", torch.empty(n_experts, dtype=torch.float32))

    def initialise(self, rng: gptzoo.Rng) -> None:
        self.bias.zero_()

    def selection_scores(self, scores: Tensor) -> Tensor:
        return scores + self.bias

    def after_optimizer_step(self, load: Tensor) -> None:
        self.bias.add_(torch.sign(load.mean() - load).to(self.bias), alpha=self.config.rate)

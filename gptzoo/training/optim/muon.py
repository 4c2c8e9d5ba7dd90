"""Muon: orthogonal updates of the matrices inside blocks, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from gptzoo.training.optim.joint import Joint
from gptzoo.training.optim.optimizers import Beta, Betas, GroupedOptimizer
from gptzoo.training.optim.param_groups import layer_of, lr_groups, lr_scales


class Muon(GroupedOptimizer):
    """Makes the momentum of each matrix inside a block orthogonal, so that all its directions move alike.

    Whatever is no matrix (biases, norms, convolutions) or is outside of blocks (embeddings, head) is AdamW's. What a
    layer computes in one product, such as queries, keys and values, is one matrix here.
    """

    name = "muon"
    paper = "Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks, kellerjordan.github.io"

    class Config(GroupedOptimizer.Config):
        lr: PositiveFloat = 0.02
        """Peak learning rate of the matrices inside blocks; the schedule scales it."""
        weight_decay: NonNegativeFloat = 0.01
        """Of the matrices inside blocks."""
        momentum: Beta = 0.95
        """Decay of the running mean of the gradient."""
        nesterov: bool = True
        """Look ahead along the momentum before the update is made."""
        ns_steps: PositiveInt = 5
        """Newton-Schulz iterations, each of which brings the update nearer to an orthogonal one."""
        adjust_lr: Literal["original", "match_rms_adamw"] = "original"
        """How `lr` depends on the shape of a matrix: not at all unless it is tall, or such that updates are as large as
        AdamW's, whose `lr` then suits (arXiv:2502.16982)."""
        adamw_lr: PositiveFloat = 1e-3
        """Peak learning rate of the rest; the schedule scales it."""
        adamw_weight_decay: NonNegativeFloat = 0.1
        """Of the embeddings and whatever else of the rest is no vector."""
        adamw_betas: Betas = (0.9, 0.95)
        """Of the rest: decay of the running means of the gradient and of its square."""

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        config, scales = self.config, lr_scales(parameters, self.config.layer_lr_decay)
        matrices = {name: p for name, p in parameters.items() if p.ndim == 2 and layer_of(name) is not None}
        rest = {name: p for name, p in parameters.items() if name not in matrices}
        parts: list[torch.optim.Optimizer] = []
        if matrices:
            groups = lr_groups(matrices, config.lr, config.weight_decay, scales)
            options = {name: getattr(config, name) for name in ("momentum", "nesterov", "ns_steps")}
            parts.append(torch.optim.Muon(groups, adjust_lr_fn=config.adjust_lr, **options))
        if rest:
            groups = lr_groups(rest, config.adamw_lr, config.adamw_weight_decay, scales)
            parts.append(torch.optim.AdamW(groups, betas=config.adamw_betas, fused=True))
        return Joint(*parts)

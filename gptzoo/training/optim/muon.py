"""Muon: orthogonalised updates for the matrices in blocks, AdamW for all other parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from gptzoo.training.optim.combined_optimizer import CombinedOptimizer
from gptzoo.training.optim.optimizers import Beta, Betas, GroupedOptimizer
from gptzoo.training.optim.param_groups import layer_of, lr_groups, lr_scales


class Muon(GroupedOptimizer):
    """Muon: orthogonalises the update of each matrix in a block, so that it has the same size in all directions.

    AdamW updates all other parameters: biases, norms, convolutions, and everything outside blocks (embeddings, head).
    Products that a layer computes together, such as queries, keys and values, count as one matrix.
    """

    name = "muon"
    paper = "Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks, kellerjordan.github.io"

    class Config(GroupedOptimizer.Config):
        lr: PositiveFloat = 0.02
        """Peak learning rate of the matrices in blocks, scaled by the schedule."""
        weight_decay: NonNegativeFloat = 0.01
        """Weight decay of the matrices in blocks."""
        momentum: Beta = 0.95
        """Decay rate of the running mean of the gradient."""
        nesterov: bool = True
        """Use Nesterov momentum."""
        ns_steps: PositiveInt = 5
        """Number of Newton-Schulz iterations. Each brings the update closer to an orthogonal matrix."""
        adjust_lr: Literal["original", "match_rms_adamw"] = "original"
        """Scaling of `lr` by the shape of a matrix. original: scale tall matrices only. match_rms_adamw: give updates
        the size of AdamW's, so that AdamW's learning rate can be used (arXiv:2502.16982)."""
        adamw_lr: PositiveFloat = 1e-3
        """Peak learning rate of the parameters that AdamW updates, scaled by the schedule."""
        adamw_weight_decay: NonNegativeFloat = 0.1
        """Weight decay of the parameters that AdamW updates; biases and norms have none."""
        adamw_betas: Betas = (0.9, 0.95)
        """Decay rates of AdamW's running means of the gradient and of its square."""

    config: Config

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        config, scales = self.config, lr_scales(parameters, self.config.layer_lr_decay)
        matrices = {name: p for name, p in parameters.items() if p.ndim == 2 and layer_of(name) is not None}
        others = {name: p for name, p in parameters.items() if name not in matrices}
        optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            groups = lr_groups(matrices, config.lr, config.weight_decay, scales)
            options = {name: getattr(config, name) for name in ("momentum", "nesterov", "ns_steps")}
            optimizers.append(torch.optim.Muon(groups, adjust_lr_fn=config.adjust_lr, **options))
        if others:
            groups = lr_groups(others, config.adamw_lr, config.adamw_weight_decay, scales)
            optimizers.append(torch.optim.AdamW(groups, betas=config.adamw_betas, fused=True))
        return CombinedOptimizer(*optimizers)

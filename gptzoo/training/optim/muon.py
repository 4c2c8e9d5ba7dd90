"""Muon: orthogonalised updates for the matrices in blocks, AdamW for all other parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from gptzoo.training.optim.matrix_optimizer import MatrixOptimizer
from gptzoo.training.optim.optimizers import Beta


class Muon(MatrixOptimizer):
    """Muon: orthogonalises the update of each matrix in a block, so that it has the same size in all directions.

    AdamW updates all other parameters: biases, norms, convolutions, and everything outside blocks (embeddings, head).
    Products that a layer computes together, such as queries, keys and values, count as one matrix.
    """

    name = "muon"
    paper = "Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks, kellerjordan.github.io"

    class Config(MatrixOptimizer.Config):
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

    config: Config

    def create_for_matrices(
        self, groups: list[dict[str, Any]], parameters: Mapping[str, nn.Parameter]
    ) -> torch.optim.Optimizer:
        options = {name: getattr(self.config, name) for name in ("momentum", "nesterov", "ns_steps")}
        return torch.optim.Muon(groups, adjust_lr_fn=self.config.adjust_lr, **options)

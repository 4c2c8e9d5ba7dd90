"""The base class of optimizers for the matrices in blocks, with AdamW for all other parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import nn

from gptzoo.training import eager_optimizers
from gptzoo.training.optim.combined_optimizer import CombinedOptimizer
from gptzoo.training.optim.optimizers import Betas, GroupedOptimizer
from gptzoo.training.optim.param_groups import layer_of, lr_groups, lr_scales
from gptzoo.training.width_rules import WidthFactors, width_factors

_ADAMW_EPS = 1e-8  # torch's default


class MatrixOptimizer(GroupedOptimizer):
    """Base class of optimizers for the matrices in blocks.

    AdamW updates all other parameters: biases, norms, convolutions, and everything outside blocks (embeddings, head).
    """

    algorithm: ClassVar[str | None] = None
    """Name of the optimizer of the matrices in checkpoints. Default: the name of its class."""

    class Config(GroupedOptimizer.Config):
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
        optimizers: dict[str, torch.optim.Optimizer] = {}
        if matrices:
            width = self.matrix_width_factors(parameters, matrices)
            groups = lr_groups(matrices, config.lr, config.weight_decay, scales, width=width)
            optimizer = self.create_for_matrices(groups, parameters)
            optimizers[self.algorithm or type(optimizer).__name__] = optimizer
        if others:
            width = width_factors(parameters, others, "adam", optimizer=self.name)
            groups = lr_groups(others, config.adamw_lr, config.adamw_weight_decay, scales, width=width, eps=_ADAMW_EPS)
            optimizers["AdamW"] = eager_optimizers.AdamW(groups, betas=config.adamw_betas, eps=_ADAMW_EPS, fused=True)
        return CombinedOptimizer(optimizers)

    def matrix_width_factors(
        self, parameters: Mapping[str, nn.Parameter], names: Iterable[str]
    ) -> Mapping[str, WidthFactors]:
        """Return the factors of a parametrisation on the options of the matrices with these names."""
        return width_factors(parameters, names, self.width_rule, optimizer=self.name)

    def create_for_matrices(
        self, groups: list[dict[str, Any]], parameters: Mapping[str, nn.Parameter]
    ) -> torch.optim.Optimizer:
        """Return a torch optimizer for groups of matrices, each with its `lr` and `weight_decay`.

        parameters: all parameters by name, as `create` receives them.
        """
        raise TypeError(f"{type(self).__name__} does not implement create_for_matrices")

"""Dynamic tanh: what stands in the place of a norm and normalises nothing."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

import gptzoo


class DynamicTanh(gptzoo.NormLayer):
    """tanh(alpha x) with one learned alpha, scaled and, with bias, shifted per channel; takes no statistics."""

    name = "dyt"
    paper = "Zhu et al. 2025, Transformers without Normalization, arXiv:2503.10622"

    class Config(gptzoo.Part.Config):  # nothing is divided, so not NormLayer's with its eps
        alpha: PositiveFloat = 0.5
        """Initial value of the learned alpha."""
        bias: bool | None = gptzoo.inherited("bias")

    def __init__(self, config: Any, width: int):
        super().__init__(config, width)
        self.alpha = nn.Parameter(torch.empty(1))
        self.bias = nn.Parameter(torch.empty(width)) if config.bias else None

    def initialise(self, rng: Any) -> None:
        super().initialise(rng)
        nn.init.constant_(self.alpha, self.config.alpha)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.weight * torch.tanh(self.alpha * x)
        return y if self.bias is None else y + self.bias

"""The kind `activation`: elementwise nonlinearities."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from gptzoo.components.part import Part, TensorPlan


class Activation(Part):
    """Base class of the kind `activation`: an elementwise function, (…, width) -> (…, width)."""

    kind = "activation"

    class Config(Part.Config):
        """The options of an activation."""

        def build(self, width: int) -> Activation:
            """Construct the activation for `width` channels."""
            activation: Activation = super().build(width)
            return activation

    config: Config

    def __init__(self, config: Config, width: int):
        super().__init__(config)
        self.width = width

    def tensor_parallel(self, n: int) -> TensorPlan | None:
        """Return an empty plan if there are no parameters and buffers, else None."""
        return None if any(True for _ in (*self.parameters(), *self.buffers())) else {}

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to (…, width)."""
        raise TypeError(f"{type(self).__name__} does not implement forward")


class ReLU(Activation):
    """ReLU, max(0, x)."""

    name = "relu"
    paper = "Nair and Hinton 2010, Rectified Linear Units Improve Restricted Boltzmann Machines"

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class GELU(Activation):
    """GELU, x * Phi(x) with the standard normal CDF Phi, exact or in GPT-2's tanh approximation."""

    name = "gelu"
    paper = "Hendrycks and Gimpel 2016, Gaussian Error Linear Units, arXiv:1606.08415"

    class Config(Activation.Config):
        approximate: Literal["none", "tanh"] = "none"
        """Approximation of Phi: `none` (exact) or `tanh`, which GPT-2 was trained with."""

    config: Config

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate=self.config.approximate)


class SiLU(Activation):
    """SiLU, x * sigmoid(x), also called swish."""

    name = "silu"
    paper = "Elfwing et al. 2017, Sigmoid-Weighted Linear Units, arXiv:1702.03118"

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)

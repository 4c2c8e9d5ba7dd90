"""Activations for gptzoo: `"activation": "squared_relu"` and `"activation": "quick_gelu"`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import gptzoo


class SquaredReLU(gptzoo.Activation):
    """Squared ReLU, max(0, x)^2, the activation that Primer found by architecture search."""

    name = "squared_relu"
    paper = "So et al. 2021, Primer: Searching for Efficient Transformers for Language Modeling, arXiv:2109.08668"

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


class QuickGELU(gptzoo.Activation):
    """QuickGELU, x * sigmoid(1.702 x), the approximation of GELU that CLIP was trained with."""

    name = "quick_gelu"
    paper = "Hendrycks and Gimpel 2016, Gaussian Error Linear Units, arXiv:1606.08415, section 2"

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [SquaredReLU, QuickGELU]

"""Broken activations, norms, norm layers and positionals, each with one fault that somebody has made before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import gptzoo


class WrongGradient(gptzoo.Activation):
    """Computes x^2 with a backward pass that lacks the factor 2."""

    name = "wrong_gradient"

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return gradients[0] * x

    def forward(self, x: Tensor) -> Tensor:
        return self.Square.apply(x)


class ReturnsFloat32(gptzoo.NormLayer):
    """Normalises in float32, which is right, and returns float32, which is not."""

    name = "returns_float32"

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * (x.square().mean(-1, keepdim=True) + self.config.eps).rsqrt() * self.weight.float()


class BatchNorm(gptzoo.NormLayer):
    """Subtracts the mean over the batch."""

    name = "batch_norm"

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(tuple(range(x.ndim - 1)), keepdim=True)
        return x * (x.square().mean(-1, keepdim=True) + self.config.eps).rsqrt() * self.weight


class AddsInPlace(gptzoo.Norm):
    """Adds to the residual stream in place."""

    name = "adds_in_place"

    def forward(self, x: Tensor, sublayers: Mapping[str, Callable[[Tensor], Tensor]]) -> Tensor:
        for name, sublayer in sublayers.items():
            x += sublayer(self.layers[name](x))
        return x


class EmbedsMeanPosition(gptzoo.Positional):
    """Scales embeddings by the mean position of the row, which depends on the chunk."""

    name = "embeds_mean_position"

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x * (1 + positions.to(x.dtype).mean(1)[:, None, None])


class ShrinksWithWidth(gptzoo.NormLayer):
    """Normalises a vector to a root mean square that falls with the width, so that wide models learn slowly."""

    name = "shrinks_with_width"

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.config.eps) * 32 / len(self.weight)

"""The kinds `norm_layer`, which normalises a vector, and `norm`, which says where in a block that happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor, nn

from gptzoo.component import Config, inherited
from gptzoo.components.part import Part, Rng
from gptzoo.reference import Reference, by_default


class NormLayer(Part):
    """Base of the kind `norm_layer`: (…, width) -> (…, width)."""

    kind = "norm_layer"

    class Config(Part.Config):
        eps: PositiveFloat = 1e-5
        """Added to the variance (or mean square), so that nothing is divided by 0."""

    def __init__(self, config: Config, width: int):
        super().__init__(config)
        self.weight = nn.Parameter(torch.empty(width))

    def initialise(self, rng: Rng) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) -> (…, width)."""
        raise TypeError(f"{type(self).__name__} does not implement forward")


class LayerNorm(NormLayer):
    """(x - mean) / sqrt(variance + eps), scaled and, with bias, shifted per channel."""

    name = "layernorm"
    paper = "Ba et al. 2016, Layer Normalization, arXiv:1607.06450"

    class Config(NormLayer.Config):
        bias: bool | None = inherited("bias")

    def __init__(self, config: Any, width: int):
        super().__init__(config, width)
        self.bias = nn.Parameter(torch.empty(width)) if config.bias else None

    def initialise(self, rng: Rng) -> None:
        super().initialise(rng)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.config.eps)


class RMSNorm(NormLayer):
    """x / sqrt(mean(x^2) + eps), scaled per channel."""

    name = "rmsnorm"
    paper = "Zhang and Sennrich 2019, Root Mean Square Layer Normalization, arXiv:1910.07467"

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.config.eps)


class Norm(Part):
    """Base of the kind `norm`: the residual topology of a block and of the ends of the stack."""

    kind = "norm"

    class Config(Part.Config):
        layer: Annotated[Config, Reference("norm_layer")] = by_default("layernorm")

    def __init__(self, config: Any, dims: Any, names: Sequence[str]):
        """`names` are the sublayers of the block, in order."""
        super().__init__(config)
        self.layers = nn.ModuleDict({name: config.layer.build(dims.d_model) for name in names})

    @classmethod
    def entry(cls, config: Any, dims: Any) -> nn.Module:
        """What the embeddings pass before the first block, (B, T, C) -> the residual stream."""
        return nn.Identity()

    @classmethod
    def exit(cls, config: Any, dims: Any) -> nn.Module:
        """What the residual stream passes after the last block, -> (B, T, C)."""
        return nn.Identity()

    @classmethod
    def residual_gain(cls, config: Any, dims: Any) -> float:
        """Factor on the initial standard deviation of the layers that write the residual stream."""
        return (2 * dims.n_layers) ** -0.5  # GPT-2's: every block adds twice

    def forward(self, x: Tensor, sublayers: Mapping[str, Callable[[Tensor], Tensor]]) -> Tensor:
        """The residual stream through one block."""
        raise TypeError(f"{type(self).__name__} does not implement forward")


class PreNorm(Norm):
    """x + f(norm(x)): trains without warmup; a final norm follows the last block."""

    name = "pre_ln"
    paper = "Xiong et al. 2020, On Layer Normalization in the Transformer Architecture, arXiv:2002.04745"

    @classmethod
    def exit(cls, config: Any, dims: Any) -> nn.Module:
        return config.layer.build(dims.d_model)

    def forward(self, x: Tensor, sublayers: Mapping[str, Callable[[Tensor], Tensor]]) -> Tensor:
        for name, sublayer in sublayers.items():
            x = x + sublayer(self.layers[name](x))
        return x


class PostNorm(Norm):
    """norm(x + f(x)): the original Transformer's; no final norm."""

    name = "post_ln"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762"

    def forward(self, x: Tensor, sublayers: Mapping[str, Callable[[Tensor], Tensor]]) -> Tensor:
        for name, sublayer in sublayers.items():
            x = self.layers[name](x + sublayer(x))
        return x

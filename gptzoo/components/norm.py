"""The kinds `norm_layer` (normalises a vector) and `norm` (places the norm layers in a block)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gptzoo.component import Inherited, inherited
from gptzoo.components.part import Part, Rng
from gptzoo.dims import Dims
from gptzoo.reference import Reference, by_default


class NormLayer(Part):
    """Base class of the kind `norm_layer`: normalises the last dimension, (…, width) -> (…, width)."""

    kind = "norm_layer"

    class Config(Part.Config):
        eps: float = Field(default=1e-5, ge=1e-30, le=1.0)
        """Constant added to the variance or mean square, for numerical stability. Above 1 it hides the input, and below
        1e-30 it is 0 in float32."""

        def build(self, width: int) -> NormLayer:
            """Construct the norm layer for vectors of `width` channels."""
            layer: NormLayer = super().build(width)
            return layer

    config: Config

    def __init__(self, config: Config, width: int):
        super().__init__(config)
        self.weight = nn.Parameter(torch.empty(width))

    def initialise(self, rng: Rng) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to (…, width)."""
        raise TypeError(f"{type(self).__name__} does not implement forward")


class OptionalScale(NormLayer):
    """Base class of norm layers whose learned scale is optional."""

    class Config(NormLayer.Config):
        weight: bool = True
        """Learn a scale per channel. Without it, the output has unit scale (OLMo, arXiv:2402.00838)."""

    config: Config

    def __init__(self, config: Config, width: int):
        super().__init__(config, width)
        self.normalized_shape = (width,)
        if not config.weight:
            self.register_parameter("weight", None)

    def initialise(self, rng: Rng) -> None:
        if self.config.weight:
            super().initialise(rng)


class LayerNorm(OptionalScale):
    """LayerNorm, (x - mean) / sqrt(variance + eps), with an optional scale and bias per channel."""

    name = "layernorm"
    paper = "Ba et al. 2016, Layer Normalization, arXiv:1607.06450"

    class Config(OptionalScale.Config):
        bias: Inherited[bool] = inherited("bias")
        """Learn a bias per channel."""

    config: Config

    def __init__(self, config: Config, width: int):
        super().__init__(config, width)
        self.bias = nn.Parameter(torch.empty(width)) if config.bias else None

    def initialise(self, rng: Rng) -> None:
        super().initialise(rng)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.config.weight or self.bias is None:
            return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.config.eps)
        # On a CPU, torch's kernel for bfloat16 does not accept a float32 bias without a weight.
        return F.layer_norm(x, self.normalized_shape, eps=self.config.eps) + self.bias.to(x.dtype)


class RMSNorm(OptionalScale):
    """RMSNorm, x / sqrt(mean(x^2) + eps), with an optional scale per channel."""

    name = "rmsnorm"
    paper = "Zhang and Sennrich 2019, Root Mean Square Layer Normalization, arXiv:1910.07467"

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.config.eps)


class Norm(Part):
    """Base class of the kind `norm`: the residual topology of a block and the norms at both ends of the stack."""

    kind = "norm"

    class Config(Part.Config):
        component: ClassVar[type[Norm]]
        layer: Annotated[NormLayer.Config, Reference("norm_layer")] = by_default("layernorm")
        """Norm layer: the function that normalises a vector."""

        def build(self, dims: Dims, names: Sequence[str]) -> Norm:
            """Construct the norms of one block with sublayers of these names."""
            norm: Norm = super().build(dims, names)
            return norm

    config: Config

    def __init__(self, config: Config, dims: Dims, names: Sequence[str]):
        """Create a norm layer for each sublayer of the block; `names` are in the order of the block."""
        super().__init__(config)
        self.layers = nn.ModuleDict({name: config.layer.build(dims.d_model) for name in names})

    @classmethod
    def entry(cls, config: Config, dims: Dims) -> nn.Module:
        """Return the module between the embeddings and the first block, (B, T, C) -> (B, T, C)."""
        return nn.Identity()

    @classmethod
    def exit(cls, config: Config, dims: Dims) -> nn.Module:
        """Return the module between the last block and the head, (B, T, C) -> (B, T, C)."""
        return nn.Identity()

    @classmethod
    def residual_gain(cls, config: Config, dims: Dims) -> float:
        """Return the factor on the initial standard deviation of layers that write the residual stream."""
        gain: float = (2 * dims.n_layers) ** -0.5  # as in GPT-2: each block adds two outputs to the stream
        return gain

    def forward(self, x: Tensor, sublayers: Mapping[str, Callable[[Tensor], Tensor]]) -> Tensor:
        """Pass the residual stream (B, T, C) through the sublayers of one block."""
        raise TypeError(f"{type(self).__name__} does not implement forward")


class PreNorm(Norm):
    """Pre-norm, x + f(norm(x)), with a final norm after the last block. It can be trained without warmup."""

    name = "pre_ln"
    paper = "Xiong et al. 2020, On Layer Normalization in the Transformer Architecture, arXiv:2002.04745"

    class Config(Norm.Config):
        residual_scale: float = Field(default=1.0, ge=1e-3, le=1e3)
        """Factor on the output of each sublayer before it is added to the residual stream (Granite)."""
        embedding_norm: bool = False
        """Normalise the embeddings before the first block (BLOOM, arXiv:2211.05100)."""

    config: Config

    @classmethod
    def entry(cls, config: Norm.Config, dims: Dims) -> nn.Module:
        assert isinstance(config, PreNorm.Config)
        return config.layer.build(dims.d_model) if config.embedding_norm else super().entry(config, dims)

    @classmethod
    def exit(cls, config: Norm.Config, dims: Dims) -> nn.Module:
        return config.layer.build(dims.d_model)

    def forward(self, x: Tensor, sublayers: Mapping[str, Callable[[Tensor], Tensor]]) -> Tensor:
        for name, sublayer in sublayers.items():
            y = sublayer(self.layers[name](x))
            x = x + (y if self.config.residual_scale == 1 else y * self.config.residual_scale)
        return x


class PostNorm(Norm):
    """Post-norm, norm(x + f(x)), as in the original Transformer, without a final norm."""

    name = "post_ln"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762"

    def forward(self, x: Tensor, sublayers: Mapping[str, Callable[[Tensor], Tensor]]) -> Tensor:
        for name, sublayer in sublayers.items():
            x = self.layers[name](x + sublayer(x))
        return x

"""Where in a block the norms are: before a sublayer, after it, around it, or on what it is added to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

import gptzoo

Sublayers = Mapping[str, Callable[[Tensor], Tensor]]


class _FinalNorm(gptzoo.Norm):
    """A stream that only ever grows, and is normalised once more after the last block."""

    @classmethod
    def exit(cls, config: Any, dims: Any) -> nn.Module:
        return config.layer.build(dims.d_model)


class ReorderedNorm(_FinalNorm):
    """x + norm(f(x)): sublayers read the bare stream, and what they add is normalised; a final norm follows.

    As the norm takes the scale of f(x) away, the layers that write it start at the full initial std, as OLMo 2's do.
    """

    name = "reordered"
    paper = "OLMo team 2024, 2 OLMo 2 Furious, arXiv:2501.00656, section 3.3.1"

    @classmethod
    def residual_gain(cls, config: Any, dims: Any) -> float:
        return 1.0

    def forward(self, x: Tensor, sublayers: Sublayers) -> Tensor:
        for name, sublayer in sublayers.items():
            x = x + self.layers[name](sublayer(x))
        return x


class SandwichNorm(ReorderedNorm):
    """x + norm(f(norm(x))), as in CogView and Gemma 2; a final norm follows the last block."""

    name = "sandwich"
    paper = "Ding et al. 2021, CogView: Mastering Text-to-Image Generation via Transformers, arXiv:2105.13290"

    def __init__(self, config: Any, dims: Any, names: Sequence[str]):
        super().__init__(config, dims, names)
        self.before = nn.ModuleDict({name: config.layer.build(dims.d_model) for name in names})

    def forward(self, x: Tensor, sublayers: Sublayers) -> Tensor:
        for name, sublayer in sublayers.items():
            x = x + self.layers[name](sublayer(self.before[name](x)))
        return x


class PeriNorm(SandwichNorm):
    """Peri-LN: the block of `sandwich`, and a norm of the embeddings before the first block as well."""

    name = "peri"
    paper = "Kim et al. 2025, Peri-LN: Revisiting Normalization Layer in the Transformer Architecture, arXiv:2502.02732"

    @classmethod
    def entry(cls, config: Any, dims: Any) -> nn.Module:
        return config.layer.build(dims.d_model)


class ParallelNorm(_FinalNorm):
    """x + attention(norm(x)) + ffn(norm(x)): all sublayers of a block read the same stream; a final norm follows."""

    name = "parallel"
    paper = "Wang and Komatsuzaki 2021, GPT-J-6B; Black et al. 2022, GPT-NeoX-20B, arXiv:2204.06745, section 2.1"

    class Config(_FinalNorm.Config):
        shared: bool = True
        """One norm for all sublayers of a block, as in GPT-J and PaLM; false gives each its own, as in GPT-NeoX."""

    def __init__(self, config: Any, dims: Any, names: Sequence[str]):
        super().__init__(config, dims, ["shared"] if config.shared else names)

    def forward(self, x: Tensor, sublayers: Sublayers) -> Tensor:
        if self.config.shared:
            h = self.layers["shared"](x)
            return sum((sublayer(h) for sublayer in sublayers.values()), start=x)
        return sum((sublayer(self.layers[name](x)) for name, sublayer in sublayers.items()), start=x)


class DeepNorm(gptzoo.Norm):
    """norm(alpha x + f(x)), alpha = (2 n_layers)^(1/4): post-norm for very deep decoders; no final norm.

    The paper starts values, attention output and both layers of the ffn at beta = (8 n_layers)^(-1/4) times Xavier's
    std. A norm scheme decides here about the last layer of a sublayer only, so that one takes all of it: as large as
    makes attention, at the default `init_std`, the same random function that the paper starts from. An ffn of width
    4 d_model starts 2.5 times as large as the paper's. How the scale is split between the layers is not the paper's.
    """

    name = "deepnorm"
    paper = "Wang et al. 2022, DeepNet: Scaling Transformers to 1,000 Layers, arXiv:2203.00555, decoder-only"

    def __init__(self, config: Any, dims: Any, names: Sequence[str]):
        super().__init__(config, dims, names)
        self.alpha = (2 * dims.n_layers) ** 0.25

    @classmethod
    def residual_gain(cls, config: Any, dims: Any) -> float:
        beta = (8 * dims.n_layers) ** -0.25
        init_std = 0.02  # of a decoder that is not told otherwise, for values and output alike
        # Xavier's std of a (C, C) matrix is C^-0.5, so in the paper those of values and output multiply to beta^2 / C.
        return beta**2 / dims.d_model / init_std**2

    def forward(self, x: Tensor, sublayers: Sublayers) -> Tensor:
        for name, sublayer in sublayers.items():
            x = self.layers[name](self.alpha * x + sublayer(x))
        return x

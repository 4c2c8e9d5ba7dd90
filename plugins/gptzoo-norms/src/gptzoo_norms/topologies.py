"""Norm placements in a residual block: after a sublayer, around it, in parallel, or on the scaled residual sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

import gptzoo

Sublayers = Mapping[str, Callable[[Tensor], Tensor]]  # attention, ffn, …, in the order of the block


def _unit_embeddings(model: Mapping[str, Any]) -> Iterator[gptzoo.Recommended]:
    """Recommend token embeddings that start at a standard deviation of 1, as large as a normalised sublayer output.

    Smaller ones drown in the residual stream, and the model hardly sees its input.
    """
    if init_std := model["architecture"].get("init_std"):
        yield gptzoo.Recommended(
            "model.architecture.embed_scale",
            "as large as a normalised output; Gemma multiplies embeddings by sqrt(d_model) for it, arXiv:2403.08295; "
            "measured in docs/results.md",
            value=float(f"{1 / init_std:.4g}"),
        )


class _FinalNorm(gptzoo.Norm):
    """Base class of the schemes that leave the residual stream unnormalised until after the last block."""

    @classmethod
    def exit(cls, config: gptzoo.Norm.Config, dims: gptzoo.Dims) -> nn.Module:
        final_norm: nn.Module = config.layer.build(dims.d_model)
        return final_norm


class ReorderedNorm(_FinalNorm):
    """OLMo 2's reordered norm, x + norm(f(x)), with a final norm after the last block.

    The norm removes the scale of f(x). So the layers that write to the residual stream start at the full initial
    standard deviation, as in OLMo 2.
    """

    name = "reordered"
    paper = "OLMo team 2024, 2 OLMo 2 Furious, arXiv:2501.00656, section 3.3.1"

    class Config(_FinalNorm.Config):
        def recommended(self, model: Mapping[str, Any]) -> Iterator[gptzoo.Recommended]:
            yield from _unit_embeddings(model)

    config: Config

    @classmethod
    def residual_gain(cls, config: gptzoo.Norm.Config, dims: gptzoo.Dims) -> float:
        return 1.0

    def forward(self, x: Tensor, sublayers: Sublayers) -> Tensor:
        for name, sublayer in sublayers.items():
            x = x + self.layers[name](sublayer(x))
        return x


class SandwichNorm(ReorderedNorm):
    """Sandwich norm, x + norm(f(norm(x))), as in CogView and Gemma 2, with a final norm after the last block."""

    name = "sandwich"
    paper = "Ding et al. 2021, CogView: Mastering Text-to-Image Generation via Transformers, arXiv:2105.13290"

    def __init__(self, config: gptzoo.Norm.Config, dims: gptzoo.Dims, names: Sequence[str]):
        super().__init__(config, dims, names)
        self.before = nn.ModuleDict({name: config.layer.build(dims.d_model) for name in names})

    def forward(self, x: Tensor, sublayers: Sublayers) -> Tensor:
        for name, sublayer in sublayers.items():
            x = x + self.layers[name](sublayer(self.before[name](x)))
        return x


class PeriNorm(SandwichNorm):
    """Peri-LN, x + norm(f(norm(x))), with one more norm on the embeddings and a final norm after the last block."""

    name = "peri"
    paper = "Kim et al. 2025, Peri-LN: Revisiting Normalization Layer in the Transformer Architecture, arXiv:2502.02732"

    class Config(SandwichNorm.Config):
        def recommended(self, model: Mapping[str, Any]) -> Iterator[gptzoo.Recommended]:
            yield from ()  # the norm on the embeddings sets their scale

    config: Config

    @classmethod
    def entry(cls, config: gptzoo.Norm.Config, dims: gptzoo.Dims) -> nn.Module:
        embedding_norm: nn.Module = config.layer.build(dims.d_model)
        return embedding_norm


class ParallelNorm(_FinalNorm):
    """Parallel block, x + attention(norm(x)) + ffn(norm(x)), with a final norm after the last block."""

    name = "parallel"
    paper = "Wang and Komatsuzaki 2021, GPT-J-6B; Black et al. 2022, GPT-NeoX-20B, arXiv:2204.06745, section 2.1"

    class Config(_FinalNorm.Config):
        shared: bool = True
        """One norm for all sublayers of a block, as in GPT-J and PaLM. False: one norm per sublayer, as in GPT-NeoX."""

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims, names: Sequence[str]):
        super().__init__(config, dims, ["shared"] if config.shared else names)

    def forward(self, x: Tensor, sublayers: Sublayers) -> Tensor:
        if self.config.shared:
            normalised = self.layers["shared"](x)
            return sum((sublayer(normalised) for sublayer in sublayers.values()), start=x)
        return sum((sublayer(self.layers[name](x)) for name, sublayer in sublayers.items()), start=x)


class DeepNorm(gptzoo.Norm):
    """DeepNorm, norm(alpha x + f(x)) with alpha = (2 n_layers)^(1/4): post-norm for very deep decoders, no final norm.

    The paper scales the initial values of the value and output projections and of both layers of the feed-forward
    network by (8 n_layers)^(-1/4), relative to Xavier's. A norm scheme of gptzoo scales only the last layer of each
    sublayer, so that layer takes the whole factor. At the default `init_std`, attention then starts as the same random
    function as in the paper. The output of a feed-forward network of width 4 d_model starts 2.5 times as large as in
    the paper.
    """

    name = "deepnorm"
    paper = "Wang et al. 2022, DeepNet: Scaling Transformers to 1,000 Layers, arXiv:2203.00555, decoder-only"

    def __init__(self, config: gptzoo.Norm.Config, dims: gptzoo.Dims, names: Sequence[str]):
        super().__init__(config, dims, names)
        self.alpha = (2 * dims.n_layers) ** 0.25

    @classmethod
    def residual_gain(cls, config: gptzoo.Norm.Config, dims: gptzoo.Dims) -> float:
        beta = (8 * dims.n_layers) ** -0.25
        default_init_std = 0.02  # of the architecture `decoder`, for the value and output projections
        # Xavier's std of a (C, C) matrix is C^-0.5. In the paper, the stds of the value and the output projection
        # therefore multiply to beta^2 / C.
        return beta**2 / dims.d_model / default_init_std**2

    def forward(self, x: Tensor, sublayers: Sublayers) -> Tensor:
        for name, sublayer in sublayers.items():
            x = self.layers[name](self.alpha * x + sublayer(x))
        return x

"""Dynamic tanh, an elementwise squashing function in place of a normalisation layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

import gptzoo


class DynamicTanh(gptzoo.NormLayer):
    """Dynamic tanh (DyT): weight * tanh(alpha x) + bias, with a learned scalar alpha and no statistics of x."""

    name = "dyt"
    paper = "Zhu et al. 2025, Transformers without Normalization, arXiv:2503.10622"

    class Config(gptzoo.Part.Config):  # not NormLayer.Config: there is no division, so there is no eps
        alpha: float = Field(default=0.5, ge=1e-6, le=10)
        """Initial value of the learned scalar alpha, up to 10. Near 0 the output is almost 0, and far above 10 only a
        sign: nothing is trained."""
        bias: gptzoo.Inherited[bool] = gptzoo.inherited("bias")
        """Learn a bias per channel. Default: the model's `bias`."""

        def recommended(self, model: Mapping[str, Any]) -> Iterator[gptzoo.Recommended]:
            if "embed_scale" in model["architecture"]:
                yield gptzoo.Recommended(
                    "model.architecture.embed_scale",
                    "the paper's language models multiply the embeddings by a learned scalar that starts at "
                    "sqrt(d_model), arXiv:2503.10622, section 4",
                    value=float(f"{model['d_model'] ** 0.5:.4g}"),
                )
                # Logits are products of vectors within ±1 and of the tied embeddings. Without a factor, the residual
                # stream grows until every tanh is saturated, and nothing but the frequency of tokens is learned.
                yield gptzoo.Recommended(
                    "model.architecture.logit_scale",
                    "keeps the residual stream from growing until tanh is saturated; measured in docs/results.md",
                    value=10.0,
                )

    config: Config  # type: ignore[assignment]  # without the eps of NormLayer's options

    def __init__(self, config: Config, width: int):
        super().__init__(config, width)  # type: ignore[arg-type]  # NormLayer's own options are not used here
        self.alpha = nn.Parameter(torch.empty(1))
        self.bias = nn.Parameter(torch.empty(width)) if config.bias else None

    def initialise(self, rng: gptzoo.Rng) -> None:
        super().initialise(rng)
        nn.init.constant_(self.alpha, self.config.alpha)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.weight * torch.tanh(self.alpha * x)
        return y if self.bias is None else y + self.bias

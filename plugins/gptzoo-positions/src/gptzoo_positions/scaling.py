"""The kind `rope_scaling`: how `scaled_rope` slows its frequencies so that it reaches beyond the context trained on.

A model that was trained up to length L has seen the angles of L tokens. Slower frequencies keep those of factor * L
tokens within what it knows; the kinds differ in which frequencies they slow, since the fast ones tell neighbours apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

import gptzoo


class RopeScaling(gptzoo.Component):
    """Base of the kind `rope_scaling`: (R/2,) frequencies in radians per token, fastest first -> slower ones."""

    kind = "rope_scaling"

    class Config(gptzoo.Component.Config):
        factor: float = Field(ge=1)
        """How many times longer the context shall be."""

    def __init__(self, config: Any):
        self.config = config

    @property
    def attention_factor(self) -> float:
        """What turned queries and keys are multiplied by."""
        return 1.0

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        """theta^(-2i/R) for i = 0 … R/2 - 1 -> the frequencies to use, same shape, float32."""
        raise TypeError(f"{type(self).__name__} does not implement scale")


class LinearScaling(RopeScaling):
    """Position interpolation: all frequencies `factor` times slower, as if positions were divided by it."""

    name = "linear"
    paper = "Chen et al. 2023, Extending Context Window via Positional Interpolation, arXiv:2306.15595"

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        return frequencies / self.config.factor


class NtkScaling(RopeScaling):
    """NTK-aware: the fastest frequency is kept, the slowest `factor` times slower, those between geometrically.

    That is RoPE with theta * factor^(R / (R - 2)).
    """

    name = "ntk"
    paper = "bloc97 2023, NTK-Aware Scaled RoPE; described in YaRN, arXiv:2309.00071, section 3.1"

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        slowness = torch.linspace(0, 1, len(frequencies), device=frequencies.device)
        return frequencies * self.config.factor**-slowness


class YarnScaling(RopeScaling):
    """YaRN: keeps frequencies that turn often within the original context, slows those that hardly turn, mixes between.

    It also sharpens attention, by a factor on queries and keys that grows with the logarithm of `factor`.
    """

    name = "yarn"
    paper = "Peng et al. 2023, YaRN: Efficient Context Window Extension, arXiv:2309.00071"

    class Config(RopeScaling.Config):
        original_context_length: PositiveInt | None = gptzoo.inherited(
            "context_length", "Tokens of the context that the model was trained on before."
        )
        beta_fast: PositiveFloat = 32.0
        """Turns within the original context from which on a frequency is kept."""
        beta_slow: PositiveFloat = 1.0
        """Turns below which it is slowed by the whole factor."""
        attention_factor: PositiveFloat | None = None
        """On queries and on keys, so scores get its square; null is the paper's 0.1 ln(factor) + 1."""

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            if self.beta_fast <= self.beta_slow:
                yield "beta_fast", f"should be above beta_slow, {self.beta_slow:g}, not {self.beta_fast:g}"

    @property
    def attention_factor(self) -> float:
        return self.config.attention_factor or 0.1 * math.log(self.config.factor) + 1

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        n_pairs = len(frequencies)

        def pair_of(turns: float) -> float:
            """The pair, as a fraction, that makes so many turns within the original context."""
            per_turn = self.config.original_context_length / (2 * math.pi * turns)
            return n_pairs * math.log(per_turn) / math.log(theta)

        # The paper mixes by turns; the authors' code, whose checkpoints are in use, by whole pairs, and so does this.
        first = max(math.floor(pair_of(self.config.beta_fast)), 0)
        last = min(math.ceil(pair_of(self.config.beta_slow)), 2 * n_pairs - 1)
        pairs = torch.arange(n_pairs, device=frequencies.device, dtype=torch.float32)
        slowed = ((pairs - first) / max(last - first, 0.001)).clamp(0, 1)  # 0: kept, 1: slowed
        return frequencies * (1 - slowed) + frequencies / self.config.factor * slowed


class Llama3Scaling(RopeScaling):
    """Llama 3.1's: keeps short wavelengths, slows long ones by `factor`, and goes smoothly from one to the other."""

    name = "llama3"
    paper = "Grattafiori et al. 2024, The Llama 3 Herd of Models, arXiv:2407.21783"

    class Config(RopeScaling.Config):
        original_context_length: PositiveInt | None = gptzoo.inherited(
            "context_length", "Tokens of the context that the model was trained on before."
        )
        low_freq_factor: PositiveFloat = 1.0
        """Turns within the original context below which a frequency is slowed by the whole factor."""
        high_freq_factor: PositiveFloat = 4.0
        """Turns from which on it is kept."""

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            low, high = self.low_freq_factor, self.high_freq_factor
            if high <= low:
                yield "high_freq_factor", f"should be above low_freq_factor, {low:g}, not {high:g}"

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        low, high = self.config.low_freq_factor, self.config.high_freq_factor
        turns = self.config.original_context_length / (2 * math.pi / frequencies)
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return frequencies / self.config.factor * (1 - kept) + frequencies * kept

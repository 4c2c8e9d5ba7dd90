"""The kind `rope_scaling`: rules that slow RoPE's frequencies, so that `rope` serves longer contexts.

A model trained up to length L knows the rotation angles of L tokens. Slower frequencies keep the angles of factor * L
tokens within that range. The rules differ in the frequencies that they slow: the fast ones distinguish neighbouring
tokens, so most rules keep them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from gptzoo.component import Component, Inherited, inherited
from gptzoo.dims import Dims


class RopeScaling(Component):
    """Base class of the kind `rope_scaling`: maps RoPE's frequencies to slower ones."""

    kind = "rope_scaling"

    class Config(Component.Config):
        factor: float = Field(ge=1)
        """Ratio of the longer context to the original context, at least 1."""

        def build(self) -> RopeScaling:
            """Construct the scaling."""
            scaling: RopeScaling = super().build()
            return scaling

    config: Config

    def __init__(self, config: Config):
        self.config = config

    @property
    def attention_factor(self) -> float:
        """Factor on rotated queries and on rotated keys."""
        return 1.0

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        """Return scaled frequencies, (R/2,) float32, for theta^(-2i/R), i = 0 … R/2 - 1, in radians per token."""
        raise TypeError(f"{type(self).__name__} does not implement scale")


class LinearScaling(RopeScaling):
    """Position interpolation: divides all frequencies by `factor`, which is the same as dividing positions by it."""

    name = "linear"
    paper = "Chen et al. 2023, Extending Context Window via Positional Interpolation, arXiv:2306.15595"

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        return frequencies / self.config.factor


class NtkScaling(RopeScaling):
    """NTK-aware scaling: keeps the highest frequency, divides the lowest by `factor`, interpolates geometrically.

    It equals RoPE with theta * factor^(R / (R - 2)).
    """

    name = "ntk"
    paper = "bloc97 2023, NTK-Aware Scaled RoPE; described in YaRN, arXiv:2309.00071, section 3.1"

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        exponent = torch.linspace(0, 1, len(frequencies), device=frequencies.device)
        return frequencies * self.config.factor**-exponent


class YarnScaling(RopeScaling):
    """YaRN: keeps high frequencies, divides low ones by `factor`, ramps in between, and sharpens attention.

    A frequency counts as high or low by its number of rotations within the original context. YaRN also sharpens
    attention, by a factor on queries and keys that grows with the logarithm of `factor`.
    """

    name = "yarn"
    paper = "Peng et al. 2023, YaRN: Efficient Context Window Extension, arXiv:2309.00071"

    class Config(RopeScaling.Config):
        original_context_length: Inherited[PositiveInt] = inherited("context_length")
        """Context length of the original training, in tokens. Default: the model's `context_length`."""
        beta_fast: PositiveFloat = 32.0
        """Frequencies with more rotations than this within the original context are kept. Must be above beta_slow."""
        beta_slow: PositiveFloat = 1.0
        """Frequencies with fewer rotations than this within the original context are divided by the full `factor`."""
        attention_factor: PositiveFloat | None = None
        """Factor on queries and on keys, so scores are multiplied by its square. Default: 0.1 ln(factor) + 1."""
        truncate: bool = True
        """Start and end the ramp at whole channel pairs, as the authors' code does. False: at fractions of a pair, as
        in the paper and in gpt-oss."""

        def problems(self, dims: Dims) -> Iterator[tuple[str, str]]:
            if self.beta_fast <= self.beta_slow:
                yield "beta_fast", f"should be above beta_slow, {self.beta_slow:g}, not {self.beta_fast:g}"

        def canonical(self, dims: Dims) -> YarnScaling.Config:
            factor = self.attention_factor or 0.1 * math.log(self.factor) + 1
            return self.model_copy(update={"attention_factor": factor})

    config: Config

    @property
    def attention_factor(self) -> float:
        return self.config.attention_factor or 0.1 * math.log(self.config.factor) + 1

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        n_pairs, original_length = len(frequencies), self.config.original_context_length

        def pair_index(rotations: float) -> float:
            """Return the fractional index of the pair that makes `rotations` rotations within the original context."""
            tokens_per_radian = original_length / (2 * math.pi * rotations)
            return n_pairs * math.log(tokens_per_radian) / math.log(theta)

        first, last = pair_index(self.config.beta_fast), pair_index(self.config.beta_slow)
        if self.config.truncate:  # most published checkpoints were trained with whole pairs
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * n_pairs - 1)
        index = torch.arange(n_pairs, device=frequencies.device, dtype=torch.float32)
        ramp = ((index - first) / max(last - first, 0.001)).clamp(0, 1)  # 0: kept, 1: divided by the factor
        return frequencies * (1 - ramp) + frequencies / self.config.factor * ramp


class Llama3Scaling(RopeScaling):
    """Llama 3.1's scaling: keeps high frequencies, divides low ones by `factor`, with a smooth transition in between.

    A frequency counts as high or low by its number of rotations within the original context.
    """

    name = "llama3"
    paper = "Grattafiori et al. 2024, The Llama 3 Herd of Models, arXiv:2407.21783"

    class Config(RopeScaling.Config):
        original_context_length: Inherited[PositiveInt] = inherited("context_length")
        """Context length of the original training, in tokens. Default: the model's `context_length`."""
        low_freq_factor: PositiveFloat = 1.0
        """Frequencies with fewer rotations than this within the original context are divided by the full `factor`."""
        high_freq_factor: PositiveFloat = 4.0
        """Frequencies with more rotations than this within the original context are kept. Must be above
        low_freq_factor."""

        def problems(self, dims: Dims) -> Iterator[tuple[str, str]]:
            low, high = self.low_freq_factor, self.high_freq_factor
            if high <= low:
                yield "high_freq_factor", f"should be above low_freq_factor, {low:g}, not {high:g}"

    config: Config

    def scale(self, frequencies: Tensor, theta: float) -> Tensor:
        low, high = self.config.low_freq_factor, self.config.high_freq_factor
        rotations = self.config.original_context_length / (2 * math.pi / frequencies)
        kept = ((rotations - low) / (high - low)).clamp(0, 1)  # 1: kept, 0: divided by the factor
        return frequencies / self.config.factor * (1 - kept) + frequencies * kept

"""Partial and scaled RoPE: rotation of a fraction of each head, with frequencies for longer contexts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field
from torch import Tensor

import gptzoo
from gptzoo_positions.rotary import frequencies, rotate_pairs
from gptzoo_positions.scaling import RopeScaling

Tables = dict[int, tuple[Tensor, Tensor]]  # by rotated width: cosines and sines, (B|1, 1, T, R/2) each


class ScaledRope(gptzoo.Positional):
    """RoPE with frequencies scaled for longer contexts (`scaling`) or applied to a part of each head (`fraction`).

    With the default options it equals the built-in `rope`. Pairs are (i, i + R/2) among the R rotated channels.
    """

    name = "scaled_rope"
    paper = "Su et al. 2021, RoFormer, arXiv:2104.09864; Black et al. 2022, GPT-NeoX-20B, arXiv:2204.06745 (partial)"

    class Config(gptzoo.Positional.Config):
        theta: float = Field(10000.0, gt=1)
        """Base of the geometric series of wavelengths, before scaling. Must be above 1."""
        fraction: float = Field(1.0, gt=0, le=1)
        """Fraction of each head that is rotated, above 0 and up to 1. Rounded down to whole pairs, but at least one."""
        scaling: Annotated[RopeScaling.Config, gptzoo.Reference("rope_scaling")] | None = None
        """Frequency scaling for a context longer than in training. Default (null): none."""

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            if dims.d_head % 2:
                yield "", f"rotates channel pairs, so the head width d_model / n_heads must be even, not {dims.d_head}"

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.scaling = config.scaling.build() if config.scaling else None

    def prepare(self, positions: Tensor) -> Tables:
        """Return cosines and sines, (B|1, 1, T, R/2) in float32, for each head width of the model."""
        return {width: self._tables(positions, width) for width in self.rotary_dims}

    def _tables(self, positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
        rotary_width = max(int(width * self.config.fraction) // 2 * 2, 2)  # R
        frequency = frequencies(self.config.theta, rotary_width, positions.device)
        attention_factor = 1.0
        if self.scaling is not None:
            frequency = self.scaling.scale(frequency, self.config.theta)
            attention_factor = self.scaling.attention_factor
        angles = positions[:, None, :, None].float() * frequency
        return angles.cos() * attention_factor, angles.sin() * attention_factor

    def rotate(self, q: Tensor, k: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        cos, sin = tables[q.shape[-1]]
        return rotate_pairs(q, cos, sin), rotate_pairs(k, cos, sin)

"""RoPE on all or a part of each head, with frequencies that may be scaled to reach further."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

import gptzoo
from gptzoo_positions.rotary import frequencies, turn


class ScaledRope(gptzoo.Positional):
    """RoPE for longer contexts (`scaling`), or on the first part of each head only (`fraction`).

    With neither it is the built-in `rope`: pairs are (i, i + R/2) of the R channels that turn.
    """

    name = "scaled_rope"
    paper = "Su et al. 2021, RoFormer, arXiv:2104.09864; Black et al. 2022, GPT-NeoX-20B, arXiv:2204.06745 (partial)"

    class Config(gptzoo.Positional.Config):
        theta: float = Field(10000.0, gt=1)
        """Base of the geometric series of wavelengths, before it is scaled."""
        fraction: float = Field(1.0, gt=0, le=1)
        """Of each head's width: that much turns, in whole pairs and at least one; the rest knows no position."""
        scaling: Annotated[gptzoo.Config, gptzoo.Reference("rope_scaling")] | None = None
        """How its frequencies are slowed for a context longer than the one trained on; null leaves them."""

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            if dims.d_head % 2:
                yield "", f"turns pairs, so the head width d_model / n_heads must be even, not {dims.d_head}"

    def __init__(self, config: Any, dims: gptzoo.Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.scaling = config.scaling.build() if config.scaling else None

    def prepare(self, positions: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Cosine and sine, (B|1, 1, T, R/2) in float32, for each width."""
        return {width: self._tables(positions, width) for width in self.rotary_dims}

    def _tables(self, positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
        turning = max(int(width * self.config.fraction) // 2 * 2, 2)
        speed = frequencies(self.config.theta, turning, positions.device)
        gain = 1.0
        if self.scaling is not None:
            speed, gain = self.scaling.scale(speed, self.config.theta), self.scaling.attention_factor
        angles = positions[:, None, :, None].float() * speed
        return angles.cos() * gain, angles.sin() * gain

    def rotate(self, q: Tensor, k: Tensor, tables: Any) -> tuple[Tensor, Tensor]:
        cos, sin = tables[q.shape[-1]]
        return turn(q, cos, sin), turn(k, cos, sin)

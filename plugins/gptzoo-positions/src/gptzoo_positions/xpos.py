"""xPos: RoPE whose scores also decay with distance, by factors on queries and keys that cancel but for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

import gptzoo
from gptzoo_positions.rotary import frequencies, turn

_LARGEST_EXPONENT = 40.0  # e^40 on a query and again on a key, times either, is still far from the largest float32


class XPos(gptzoo.Positional):
    """RoPE with a decay: pair i of a score is multiplied by zeta_i^(distance / scale_base), 2/7 <= zeta_i < 1.

    zeta_i = (2i/D + 0.4) / 1.4, so fast frequencies decay soonest. A query gets zeta^(n / scale_base) and a key the
    inverse, with n counted from half of context_length: a fixed origin, so that cached keys stay right. For causal
    attention: a key ahead of its query would grow. Some 32 scale_base tokens from the origin the factors of the fastest
    pairs stop growing, to stay within float32; from there on these pairs are plain RoPE.
    """

    name = "xpos"
    paper = "Sun et al. 2022, A Length-Extrapolatable Transformer, arXiv:2212.10554"

    class Config(gptzoo.Positional.Config):
        theta: float = Field(10000.0, gt=1)
        """Base of the geometric series of wavelengths."""
        scale_base: PositiveFloat = 512.0
        """Tokens over which the fastest pair decays to 2/7; the larger, the closer to RoPE."""

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            if dims.d_head % 2:
                yield "", f"turns pairs, so the head width d_model / n_heads must be even, not {dims.d_head}"

    def prepare(self, positions: Tensor) -> dict[int, tuple[Tensor, ...]]:
        """Cosine and sine for queries, then for keys, each (B|1, 1, T, D/2) in float32, for each width D."""
        return {width: self._tables(positions, width) for width in self.rotary_dims}

    def _tables(self, positions: Tensor, width: int) -> tuple[Tensor, ...]:
        at = positions[:, None, :, None]
        angles = at.float() * frequencies(self.config.theta, width, at.device)
        zeta = (torch.arange(0, width, 2, device=at.device, dtype=torch.float32) / width + 0.4) / 1.4
        exponent = (at - self.dims.context_length // 2) / self.config.scale_base * zeta.log()
        decay = exponent.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT).exp()
        cos, sin = angles.cos(), angles.sin()
        return cos * decay, sin * decay, cos / decay, sin / decay

    def rotate(self, q: Tensor, k: Tensor, tables: Any) -> tuple[Tensor, Tensor]:
        q_cos, q_sin, k_cos, k_sin = tables[q.shape[-1]]
        return turn(q, q_cos, q_sin), turn(k, k_cos, k_sin)

"""xPos: RoPE whose attention scores also decay with distance."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

import gptzoo
from gptzoo_positions.rotary import frequencies, rotate_pairs

Tables = dict[int, tuple[Tensor, Tensor, Tensor, Tensor]]  # by rotated width: cos and sin for queries, then for keys

_MAX_EXPONENT = 40.0  # e^40 on a query times e^40 on a key stays far below the largest float32


class XPos(gptzoo.Positional):
    """xPos: RoPE in which channel pair i's part of a score is scaled by zeta_i^(distance / scale_base), zeta_i < 1.

    zeta_i = (2i/D + 0.4) / 1.4, so fast frequencies decay soonest. A query at position n is multiplied by
    zeta^(n / scale_base) and a key by the inverse, with n counted from half of context_length. That origin is fixed, so
    cached keys stay valid. For causal attention only: the score of a key after its query would grow. About
    32 scale_base tokens from the origin, the factors of the fastest pairs stop growing, to stay within float32. Beyond
    that, these pairs are plain RoPE.
    """

    name = "xpos"
    paper = "Sun et al. 2022, A Length-Extrapolatable Transformer, arXiv:2212.10554"

    class Config(gptzoo.Positional.Config):
        theta: float = Field(default=10000.0, gt=1)
        """Base of the geometric series of wavelengths. Must be above 1."""
        scale_base: PositiveFloat = 512.0
        """Distance in tokens at which the contribution of the fastest-rotating channel pair to a score is multiplied by
        2/7. A larger value is closer to RoPE."""

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            if dims.d_head % 2:
                yield "", f"rotates pairs, so the width of a head must be even, got {dims.d_head}"

    config: Config

    def prepare(self, positions: Tensor) -> Tables:
        """Return cosine and sine for queries, then for keys, each (B|1, 1, T, D/2) in float32.

        They are for each width D in `rotary_dims`.
        """
        return {width: self._tables(positions, width) for width in self.rotary_dims}

    def _tables(self, positions: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        n = positions[:, None, :, None]
        angles = n.float() * frequencies(self.config.theta, width, n.device)
        zeta = (torch.arange(0, width, 2, device=n.device, dtype=torch.float32) / width + 0.4) / 1.4
        exponent = (n - self.dims.context_length // 2) / self.config.scale_base * zeta.log()
        decay = exponent.clamp(-_MAX_EXPONENT, _MAX_EXPONENT).exp()
        cos, sin = angles.cos(), angles.sin()
        return cos * decay, sin * decay, cos / decay, sin / decay

    def rotate(self, q: Tensor, k: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        q_cos, q_sin, k_cos, k_sin = tables[q.shape[-1]]
        return rotate_pairs(q, q_cos, q_sin), rotate_pairs(k, k_cos, k_sin)

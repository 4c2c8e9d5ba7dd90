"""ALiBi for gptzoo: attention with linear biases, `"positional": "alibi"`.

Press et al. 2021, Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation,
arXiv:2108.12409. The token embeddings carry no positions. Each head instead subtracts `slope * distance` from its
attention scores, where the distance is that between query and key and the slope differs from head to head.
"""

from __future__ import annotations

import math

import torch
from pydantic import PositiveFloat
from torch import Tensor

import gptzoo


class Alibi(gptzoo.Positional):
    """ALiBi: subtracts slope * distance from each attention score, with one fixed slope per head.

    It has no parameters and no maximum length, so a model can be run on longer sequences than it was trained on.
    """

    name = "alibi"
    paper = "Press et al. 2021, Train Short, Test Long, arXiv:2108.12409"

    class Config(gptzoo.Positional.Config):
        scale: PositiveFloat = 1.0
        """Factor on all slopes (1 / sqrt(d_head) in Falcon-RW)."""

    config: Config

    slopes: Tensor

    def __init__(self, config: Config, dims: gptzoo.Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        # The slopes follow from the number of heads, so they are not saved in checkpoints.
        self.register_buffer("slopes", torch.empty(dims.n_heads), persistent=False)

    def initialise(self, rng: gptzoo.Rng) -> None:
        self.slopes.copy_(torch.tensor(slopes(len(self.slopes))) * self.config.scale)

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        # The distance is absolute, because keys may come after the query in an encoder.
        distance = (q_pos[:, None, :, None] - k_pos[:, None, None, :]).abs()  # (B|1, 1, T, S)
        return -self.slopes[:, None, None] * distance


def slopes(n_heads: int) -> list[float]:
    """Return the slope of each head: 2^(-8/n), 2^(-16/n), …, 2^-8 if the number of heads n is a power of two.

    For any other n, start with the slopes for the next lower power of two. Then take every second slope of the next
    higher power of two until there are n.
    """
    n = 2 ** int(math.log2(n_heads))
    geometric = [2 ** (-8 * (head + 1) / n) for head in range(n)]
    return geometric if n == n_heads else geometric + slopes(2 * n)[0 : 2 * (n_heads - n) : 2]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [Alibi]

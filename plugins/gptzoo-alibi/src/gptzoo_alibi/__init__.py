"""ALiBi for gptzoo: `"positional": "alibi"`.

Press et al. 2021, Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation,
arXiv:2108.12409. No position is added to the embeddings; each head takes from its scores in proportion to the distance
between query and key, every head at its own rate.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

import gptzoo


class Alibi(gptzoo.Positional):
    """Takes slope * distance from each attention score, with a slope for each head; reaches beyond context_length."""

    name = "alibi"
    paper = "Press et al. 2021, Train Short, Test Long, arXiv:2108.12409"

    slopes: Tensor

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        # The slopes follow from the number of heads, so no checkpoint needs to hold them.
        self.register_buffer("slopes", torch.empty(dims.n_heads), persistent=False)

    def initialise(self, rng: Any) -> None:
        self.slopes.copy_(torch.tensor(slopes(len(self.slopes))))

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        distance = (q_pos[:, None, :, None] - k_pos[:, None, None, :]).abs()  # (B|1, 1, T, S), also to the future
        return -self.slopes[:, None, None] * distance


def slopes(n_heads: int) -> list[float]:
    """The slope of each head: 2^(-8/n), 2^(-16/n), …, 2^-8 for a power of two n.

    Other numbers of heads take the slopes of the power of two below, and then every second of those of the power above.
    """
    n = 2 ** int(math.log2(n_heads))
    geometric = [2 ** (-8 * (head + 1) / n) for head in range(n)]
    return geometric if n == n_heads else geometric + slopes(2 * n)[0 : 2 * (n_heads - n) : 2]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [Alibi]

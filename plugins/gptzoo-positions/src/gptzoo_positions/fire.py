"""FIRE: a small network from the position of a key, relative to its query, to the bias of every head."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

import gptzoo


class Fire(gptzoo.Positional):
    """Adds MLP(log(1 + c * distance) / log(1 + c * max(L, q_pos))) to each attention score; c and L are learned.

    The input stays within 0 and 1 however long the text, so the network meets nothing that it was not trained on. One
    network serves all layers that name this config (FIRE-S in the paper).
    """

    name = "fire"
    paper = "Li et al. 2023, Functional Interpolation for Relative Positions, arXiv:2310.04418"

    class Config(gptzoo.Positional.Config):
        d_hidden: PositiveInt = 32
        """Width of the network's one hidden layer."""
        c: PositiveFloat = 0.1
        """Initial value: the larger, the more of the input's range near tokens get."""
        threshold: PositiveFloat = 512.0
        """Initial value of L, in tokens: queries before it are all normalised alike."""

    def __init__(self, config: Any, dims: gptzoo.Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.c = nn.Parameter(torch.empty(1))
        self.threshold = nn.Parameter(torch.empty(1))  # L over its initial value, so that it learns at a weight's rate
        self.hidden_weight = nn.Parameter(torch.empty(config.d_hidden))
        self.hidden_bias = nn.Parameter(torch.empty(config.d_hidden))
        # No bias at the end: it would add the same to all scores of a head, which a softmax does not see.
        self.out_weight = nn.Parameter(torch.empty(dims.n_heads, config.d_hidden))

    def initialise(self, rng: Any) -> None:
        """The network as the authors do, in the ranges of torch's own layers. Weights of 0.02 would all but freeze it,
        and with biases of 0 it is a straight line, as its input is never negative."""
        nn.init.constant_(self.c, self.config.c)
        nn.init.ones_(self.threshold)
        nn.init.uniform_(self.hidden_weight, -1, 1, generator=rng("hidden_weight"))
        nn.init.uniform_(self.hidden_bias, -1, 1, generator=rng("hidden_bias"))
        limit = self.config.d_hidden**-0.5
        nn.init.uniform_(self.out_weight, -limit, limit, generator=rng("out_weight"))

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        # In float32 up to the network whatever the weights are: bfloat16 does not tell 1000 from 1001.
        distance = (q_pos[:, :, None] - k_pos[:, None, :]).abs().float()  # (B|1, T, S)
        longest = torch.maximum(q_pos.float(), self.config.threshold * self.threshold.abs())[:, :, None]  # (B|1, T, 1)
        c = self.c.abs()
        nearness = torch.log1p(c * distance) / (torch.log1p(c * longest) + 1e-6)  # the authors' guard, for c near 0
        hidden = F.relu(nearness[..., None] * self.hidden_weight + self.hidden_bias)  # (B|1, T, S, hidden)
        return F.linear(hidden.to(self.out_weight.dtype), self.out_weight).permute(0, 3, 1, 2)  # (B|1, H, T, S)

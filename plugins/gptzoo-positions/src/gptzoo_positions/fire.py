"""FIRE: a score bias computed by a small network from the normalised distance of query and key."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

import gptzoo


class Fire(gptzoo.Positional):
    """FIRE: adds an MLP of the log distance, normalised by the position of the query, to each attention score.

    The bias is MLP(log(1 + c * distance) / log(1 + c * max(L, q_pos))) with learned c and L.

    The input of the network stays between 0 and 1 at any sequence length, so longer sequences than in training give no
    unfamiliar inputs. One network serves all layers that name this config (FIRE-S in the paper).
    """

    name = "fire"
    paper = "Li et al. 2023, Functional Interpolation for Relative Positions, arXiv:2310.04418"

    class Config(gptzoo.Positional.Config):
        d_hidden: PositiveInt = 32
        """Width of the network's single hidden layer."""
        c: PositiveFloat = 0.1
        """Initial value of the learned c in log(1 + c * distance). A larger c spreads short distances over more of the
        input range of the network."""
        threshold: PositiveFloat = 512.0
        """Initial value of the learned L, in tokens. Below L, the bias depends on the distance alone."""

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.c = nn.Parameter(torch.empty(1))
        # L is stored relative to its initial value, so that it changes at the same rate as a weight.
        self.threshold = nn.Parameter(torch.empty(1))
        self.hidden_weight = nn.Parameter(torch.empty(config.d_hidden))
        self.hidden_bias = nn.Parameter(torch.empty(config.d_hidden))
        # The output layer has no bias: it would shift all scores of a head equally, which the softmax ignores.
        self.out_weight = nn.Parameter(torch.empty(dims.n_heads, config.d_hidden))

    def fans(self) -> Mapping[str, gptzoo.Fans]:
        return {"out_weight": gptzoo.Fans(inputs=(1,))}

    def initialise(self, rng: gptzoo.Rng) -> None:
        """Initialise the network like torch's own linear layers, as the authors do.

        With weights of standard deviation 0.02 it would hardly learn. With biases of 0 it would be linear, because its
        input is never negative.
        """
        nn.init.constant_(self.c, self.config.c)
        nn.init.ones_(self.threshold)
        nn.init.uniform_(self.hidden_weight, -1, 1, generator=rng("hidden_weight"))
        nn.init.uniform_(self.hidden_bias, -1, 1, generator=rng("hidden_bias"))
        limit = self.config.d_hidden**-0.5
        nn.init.uniform_(self.out_weight, -limit, limit, generator=rng("out_weight"))

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        # The network's input is computed in float32 for any dtype of the weights: bfloat16 rounds 1001 to 1000.
        distance = (q_pos[:, :, None] - k_pos[:, None, :]).abs().float()  # (B|1, T, S)
        max_distance = torch.maximum(q_pos.float(), self.config.threshold * self.threshold.abs())[:, :, None]
        c = self.c.abs()
        # The authors add 1e-6 to the denominator as well, which matters if c is near 0.
        normalised = torch.log1p(c * distance) / (torch.log1p(c * max_distance) + 1e-6)  # (B|1, T, S)
        hidden = F.relu(normalised[..., None] * self.hidden_weight + self.hidden_bias)  # (B|1, T, S, d_hidden)
        return F.linear(hidden.to(self.out_weight.dtype), self.out_weight).permute(0, 3, 1, 2)  # (B|1, H, T, S)

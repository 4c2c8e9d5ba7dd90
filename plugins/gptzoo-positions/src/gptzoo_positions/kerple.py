"""KERPLE's logarithmic kernel: a bias that falls with the logarithm of the distance, at rates that are learned."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptzoo


class Kerple(gptzoo.Positional):
    """Takes r1 * log(1 + r2 * distance) from each attention score, with a learned r1 and r2 > 0 for each head.

    r = softplus(weight): always positive and never without a gradient. The authors' code clamps r itself, which stops
    learning below the clamp, or changes weights in the forward pass; where r is well above 0 the two train alike.
    """

    name = "kerple"
    paper = "Chi et al. 2022, KERPLE: Kernelized Relative Positional Embedding, arXiv:2205.09921"

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.r1 = nn.Parameter(torch.empty(dims.n_heads))  # softplus of it is the paper's r1
        self.r2 = nn.Parameter(torch.empty(dims.n_heads))

    def initialise(self, rng: Any) -> None:
        """r1 uniform in (0, 2), r2 in (0, 1), as the authors do; not below 0.01, where softplus is all but flat."""
        for name, weight, most in (("r1", self.r1, 2.0), ("r2", self.r2, 1.0)):
            nn.init.uniform_(weight, 0.01, most, generator=rng(name))
            weight.copy_(weight.expm1().log())  # the inverse of softplus

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        # In float32 whatever the weights are: bfloat16 does not tell 1000 from 1001.
        distance = (q_pos[:, None, :, None] - k_pos[:, None, None, :]).abs().float()  # (B|1, 1, T, S)
        r1, r2 = F.softplus(self.r1)[:, None, None], F.softplus(self.r2)[:, None, None]  # (H, 1, 1)
        return (-r1 * torch.log1p(r2 * distance)).to(self.r1.dtype)

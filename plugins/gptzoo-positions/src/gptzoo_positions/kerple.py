"""KERPLE: a score bias that decreases with the logarithm of the distance, at learned rates."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptzoo


class Kerple(gptzoo.Positional):
    """KERPLE's logarithmic kernel: subtracts r1 * log(1 + r2 * distance) from each score, r1 and r2 learned per head.

    The parameters pass through softplus, so r1 and r2 are positive and always receive a gradient. The authors' code
    clamps r1 and r2 instead, which stops the gradient below the clamp. Well above zero the two train identically.
    """

    name = "kerple"
    paper = "Chi et al. 2022, KERPLE: Kernelized Relative Positional Embedding, arXiv:2205.09921"

    def __init__(self, config: gptzoo.Positional.Config, dims: gptzoo.Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.r1 = nn.Parameter(torch.empty(dims.n_heads))  # the paper's r1 before the softplus
        self.r2 = nn.Parameter(torch.empty(dims.n_heads))

    def initialise(self, rng: gptzoo.Rng) -> None:
        """Draw r1 from (0, 2) and r2 from (0, 1), as the authors do, but not below 0.01, where softplus is flat."""
        for name, weight, upper in (("r1", self.r1, 2.0), ("r2", self.r2, 1.0)):
            nn.init.uniform_(weight, 0.01, upper, generator=rng(name))
            weight.copy_(weight.expm1().log())  # the inverse of softplus

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        # Distances are computed in float32 for any dtype of the weights: bfloat16 rounds 1001 to 1000.
        distance = (q_pos[:, None, :, None] - k_pos[:, None, None, :]).abs().float()  # (B|1, 1, T, S)
        r1, r2 = F.softplus(self.r1)[:, None, None], F.softplus(self.r2)[:, None, None]  # (H, 1, 1)
        return (-r1 * torch.log1p(r2 * distance)).to(self.r1.dtype)

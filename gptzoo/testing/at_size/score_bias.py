"""A score bias for attentions under test, because none of the built-in positionals has one."""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo.components.positional import Positional


class RelativeBias(Positional):
    """A score bias that falls with the distance between query and key, at a rate of its own for each head."""

    name = "relative_bias"

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        distance = q_pos[:, None, :, None] - k_pos[:, None, None, :]
        slopes = torch.linspace(0.02, 0.3, self.dims.n_heads, device=q_pos.device)
        return -slopes[:, None, None] * distance.abs()

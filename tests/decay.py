"""An attention as the package of a stranger would have it: a recurrent state, a buffer and support for padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import gptzoo


class Decay(gptzoo.Attention):
    """Each channel is a decaying sum of its past."""

    name = "decay"
    supports = frozenset({"padding"})

    rate: Tensor

    def __init__(self, config: gptzoo.Attention.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.register_buffer("rate", torch.empty(dims.d_model), persistent=False)
        self.value = nn.Linear(dims.d_model, dims.d_model, bias=False)
        self.out = nn.Linear(dims.d_model, dims.d_model, bias=False)

    def initialise(self, rng: gptzoo.Rng) -> None:
        self.rate.copy_(torch.linspace(0.5, 0.9, self.rate.shape[0]))

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        present = context.positions >= 0  # (B|1, T)
        value = self.value(x)  # (B, T, C)
        total = torch.zeros_like(value[:, 0]) if state is None else state["total"]  # (B, C)
        sums = []
        for index in range(x.shape[1]):
            total = torch.where(present[:, index, None], total * self.rate + value[:, index], total)
            sums.append(total)
        if state is not None:
            state["total"].copy_(total)
        return self.out(torch.stack(sums, dim=1))

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        return {"total": torch.zeros(batch_size, self.rate.shape[0], device=device, dtype=dtype)}

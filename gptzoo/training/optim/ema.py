"""The exponential moving average (EMA) of the weights, which often has a lower loss than the last weights."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gptzoo.training.evaluation_weights import swapped_in


class EMA:
    """The exponential moving average of each trained parameter.

    The decay grows to `decay` over the first steps, as (1 + step) / (10 + step), so that the initial values soon
    fade. Polyak and Juditsky 1992, Acceleration of stochastic approximation by averaging.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float):
        self.parameters = parameters
        self.decay = decay
        self.values: dict[str, Tensor] = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Average in the weights after optimizer step number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(list(self.values.values()), [p.detach() for p in self.parameters.values()], step)

    def swapped_in(self) -> AbstractContextManager[object]:
        """Return a context in which the model has the averages instead of its weights."""
        return swapped_in(self.parameters, self.values)

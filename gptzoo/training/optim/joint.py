"""Several torch optimizers, each of its own parameters, as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Joint(torch.optim.Optimizer):
    """One state and one list of groups for all; a group's `algorithm` is the class of the optimizer it belongs to."""

    def __init__(self, *parts: torch.optim.Optimizer):
        self.parts = {type(part).__name__: part for part in parts}
        for algorithm, part in self.parts.items():
            for group in part.param_groups:
                group["algorithm"] = algorithm
        super().__init__([group for part in parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update by each of the optimizers."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for algorithm, part in self.parts.items():
            # Not once and for all: load_state_dict puts another state and other groups in the place of these.
            part.state = self.state
            part.param_groups = [group for group in self.param_groups if group["algorithm"] == algorithm]
            part.step()
        return loss

"""Several torch optimizers, each for its own parameters, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch


class CombinedOptimizer(torch.optim.Optimizer):
    """Several optimizers, by the names of their algorithms, with one state and one list of groups.

    A group's `algorithm` names its optimizer.
    """

    def __init__(self, optimizers: Mapping[str, torch.optim.Optimizer]):
        self.optimizers = optimizers
        for algorithm, optimizer in optimizers.items():
            for group in optimizer.param_groups:
                group["algorithm"] = algorithm
        super().__init__([group for optimizer in optimizers.values() for group in optimizer.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do one step of each optimizer."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for algorithm, optimizer in self.optimizers.items():
            # In every step, because load_state_dict replaces the state and the groups of this optimizer.
            optimizer.state = self.state
            optimizer.param_groups = [group for group in self.param_groups if group["algorithm"] == algorithm]
            optimizer.step()
        return loss

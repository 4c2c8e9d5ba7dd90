"""Several torch optimizers, each for its own parameters, behind one interface."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from gptzoo.training.eager_optimizers import EagerOptimizer


class CombinedOptimizer(EagerOptimizer):
    """Several optimizers, by the names of their algorithms, with one state and one list of groups.

    A group's `algorithm` names its optimizer. The state dict has all entries of the optimizers' state dicts.
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

    def state_dict(self) -> dict[str, Any]:
        """Return the state, the groups, and under `extra` the other entries of each optimizer's state dict."""
        extra = {algorithm: _other_entries(optimizer) for algorithm, optimizer in self.optimizers.items()}
        given = {algorithm: entries for algorithm, entries in extra.items() if entries}
        return super().state_dict() | ({"extra": given} if given else {})

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the result of `state_dict`."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "extra"})
        for algorithm, entries in state_dict.get("extra", {}).items():
            optimizer = self.optimizers[algorithm]
            with _without_state(optimizer):
                optimizer.load_state_dict({**optimizer.state_dict(), **entries})


def _other_entries(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    with _without_state(optimizer):
        return {key: value for key, value in optimizer.state_dict().items() if key not in ("state", "param_groups")}


@contextlib.contextmanager
def _without_state(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Remove the state of an optimizer for the length of the block: it has parameters of the others as well."""
    state, groups = optimizer.state, optimizer.param_groups
    optimizer.state = collections.defaultdict(dict)
    try:
        yield
    finally:
        optimizer.state, optimizer.param_groups = state, groups

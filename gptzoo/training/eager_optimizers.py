"""torch's optimizers, without an import of torch's compiler.

torch hides methods of its optimizers from its compiler by decorators that import `torch._dynamo` when they are first
called, which takes as long as the import of torch itself. gptzoo never compiles an optimizer, so these subclasses call
the methods inside those decorators. The optimizers of torch and of other libraries stay as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

_Method = Callable[..., Any]


def _undecorated(method: _Method) -> _Method:
    """Return the function that torch has decorated, or the method itself in a version that does not decorate it."""
    return inspect.unwrap(method)


def _undecorated_step(optimizer: type[torch.optim.Optimizer]) -> _Method:
    """Return the `step` of a torch optimizer. The decorator also switches gradients off."""
    without_gradients: _Method = torch.no_grad()(_undecorated(optimizer.step))
    return without_gradients


class EagerOptimizer(torch.optim.Optimizer):
    """Base class of gptzoo's own torch optimizers."""

    add_param_group = _undecorated(torch.optim.Optimizer.add_param_group)
    zero_grad = _undecorated(torch.optim.Optimizer.zero_grad)
    state_dict = _undecorated(torch.optim.Optimizer.state_dict)
    load_state_dict = _undecorated(torch.optim.Optimizer.load_state_dict)


class AdamW(EagerOptimizer, torch.optim.AdamW):
    """torch's AdamW."""

    step = _undecorated_step(torch.optim.AdamW)


class SGD(EagerOptimizer, torch.optim.SGD):
    """torch's SGD."""

    step = _undecorated_step(torch.optim.SGD)


class Adafactor(EagerOptimizer, torch.optim.Adafactor):
    """torch's Adafactor."""

    step = _undecorated_step(torch.optim.Adafactor)


class Muon(EagerOptimizer, torch.optim.Muon):
    """torch's Muon."""

    step = _undecorated_step(torch.optim.Muon)

"""State in the parameter groups of an optimizer: entries that change in training, such as a step count.

Other entries are options, which the spec sets. Both are told apart by comparing with the groups of the new optimizer.
"""

from __future__ import annotations

import copy
import weakref
from typing import Any

import torch
from torch import Tensor

Groups = list[dict[str, Any]]

_initial_groups: weakref.WeakKeyDictionary[torch.optim.Optimizer, Groups] = weakref.WeakKeyDictionary()
_SET_BY_THE_TRAINER = ("params", "param_names", "lr")


def remember_groups(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Record the entries of the parameter groups of a new optimizer, and return it."""
    _initial_groups[optimizer] = [
        {key: _copy(value) for key, value in group.items() if key not in _SET_BY_THE_TRAINER}
        for group in optimizer.param_groups
    ]
    return optimizer


def changed_entries(optimizer: torch.optim.Optimizer) -> Groups:
    """Return the entries of each group that have changed since the optimizer was created.

    For an optimizer whose creation was not recorded, these are the entries that differ from its defaults.
    """
    initial = _initial_groups.get(optimizer, [optimizer.defaults] * len(optimizer.param_groups))
    result: Groups = []
    for index, group in enumerate(optimizer.param_groups):
        before = initial[index] if index < len(initial) else optimizer.defaults
        result.append(
            {
                key: value
                for key, value in group.items()
                if key not in _SET_BY_THE_TRAINER and not (key in before and are_equal(before[key], value))
            }
        )
    return result


def are_equal(a: object, b: object) -> bool:
    """Compare two values, tensors bit for bit. Values that cannot be compared differ, unless they are one object."""
    if a is b and not isinstance(a, Tensor | list | dict):
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(are_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(are_equal, a, b))
    try:
        if a == b:
            return True
    except Exception:
        return False
    return hasattr(a, "__dict__") and hasattr(b, "__dict__") and not callable(a) and are_equal(vars(a), vars(b))


def _copy(value: object) -> object:
    """Copy a value, so that later changes in place show. A value that cannot be copied is returned itself."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    try:
        return copy.deepcopy(value)
    except Exception:
        return value

"""A check before the first step that checkpoints can hold the state of an optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import nn

from gptzoo.errors import InputError
from gptzoo.spec.run import RunSpec
from gptzoo.training.optim.group_state import changed_entries, remember_groups
from gptzoo.training.optim.optimizer_state import optimizer_entries
from gptzoo.training.optim.state_values import UnsupportedValue
from gptzoo.utils.seeds import seed_all_generators

_MAX_PARAMETERS = 64
_MAX_SIZE = 4  # of each dimension
_STEPS = 2


def check_optimizer_state(spec: RunSpec, parameters: Mapping[str, nn.Parameter]) -> set[str]:
    """Run a few steps of the spec's optimizer on small parameters, and return the entries of groups that change.

    The caller preserves the state of the random generators. Raises InputError if a checkpoint cannot hold an entry.
    """
    names = sorted(parameters, key=lambda name: (-parameters[name].ndim, name))
    every = -(-len(names) // _MAX_PARAMETERS)
    seed_all_generators(0)
    small = {
        name: nn.Parameter(torch.randn([min(size, _MAX_SIZE) for size in parameters[name].shape]))
        for name in names[::every]
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer = remember_groups(spec.optimizer.build().create(small))
            for _ in range(_STEPS):
                for parameter in small.values():
                    parameter.grad = torch.randn_like(parameter)
                optimizer.step()
    except Exception:
        return set()
    try:
        optimizer_entries(optimizer, small)
    except UnsupportedValue as error:
        raise InputError(
            f"{spec.name}: $.optimizer: {spec.optimizer.type!r} has state that no checkpoint can hold, so its runs "
            f"could not be resumed: {error}. Keep numbers, tensors, or lists, tuples and dicts of them in its state"
        ) from None
    return {entry for entries in changed_entries(optimizer) for entry in entries}

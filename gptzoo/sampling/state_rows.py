"""Operations on the batch rows of a model's states.

Every state tensor has the batch as its first dimension, so these functions work for any component.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from gptzoo.components.sublayer import State

States = Sequence[Mapping[str, State]]  # by layer, then by sublayer


def take_rows(states: States, rows: Sequence[int]) -> list[dict[str, State]]:
    """Return new states whose row i is a copy of row `rows[i]`, to reorder, repeat or drop rows."""
    return [
        {
            name: {entry: tensor[torch.as_tensor(rows, device=tensor.device)] for entry, tensor in state.items()}
            for name, state in layer.items()
        }
        for layer in states
    ]


def clone_states(states: States) -> list[dict[str, State]]:
    """Return a copy of the states in new memory."""
    return [
        {name: {entry: tensor.clone() for entry, tensor in state.items()} for name, state in layer.items()}
        for layer in states
    ]


def view_first_rows(states: States, n_rows: int) -> list[dict[str, State]]:
    """Return views of the first `n_rows` rows, which share the memory of `states`."""
    return [
        {name: {entry: tensor[:n_rows] for entry, tensor in state.items()} for name, state in layer.items()}
        for layer in states
    ]


def copy_row(target: States, target_row: int, source: States, source_row: int) -> None:
    """Copy one row of `source` over one row of `target`. Both have the same shapes except for the batch size."""
    for target_layer, source_layer in zip(target, source, strict=True):
        for name, state in target_layer.items():
            for entry, tensor in state.items():
                tensor[target_row].copy_(source_layer[name][entry][source_row])

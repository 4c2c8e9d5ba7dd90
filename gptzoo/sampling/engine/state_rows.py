"""Rows of the states of a model: tensors with the batch first, so that nobody here needs to know what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gptzoo.components.sublayer import State

States = Sequence[Mapping[str, State]]  # of each layer, of each of its sublayers


def take_rows(states: States, rows: Sequence[int] | Tensor) -> list[dict[str, State]]:
    """New states whose row i is row `rows[i]` of these: to reorder, repeat or drop rows."""
    return [
        {
            name: {entry: tensor[torch.as_tensor(rows, device=tensor.device)] for entry, tensor in state.items()}
            for name, state in layer.items()
        }
        for layer in states
    ]


def copied(states: States) -> list[dict[str, State]]:
    """The same states in memory of their own."""
    return [
        {name: {entry: tensor.clone() for entry, tensor in state.items()} for name, state in layer.items()}
        for layer in states
    ]


def first_rows(states: States, n_rows: int) -> list[dict[str, State]]:
    """The first rows of these states, in the same memory."""
    return [
        {name: {entry: tensor[:n_rows] for entry, tensor in state.items()} for name, state in layer.items()}
        for layer in states
    ]


def put_row(states: States, row: int, source: States, source_row: int) -> None:
    """Write one row of `source` over one row of these states, which are of the same shapes but for the batch."""
    for layer, of_layer in zip(states, source, strict=True):
        for name, state in layer.items():
            for entry, tensor in state.items():
                tensor[row].copy_(of_layer[name][entry][source_row])

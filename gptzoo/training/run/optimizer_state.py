"""What a checkpoint keeps beside the model: the optimizer by parameter name, and where the run is.

Data order, learning rate and dropout are functions of (seed, step), so there is nothing of theirs to keep.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptzoo.checkpoint.model_folder import EMA_WEIGHTS, read_tensors, write_tensors
from gptzoo.checkpoint.sharded_tensors import distribute_like, reorder_rows
from gptzoo.errors import FolderError
from gptzoo.utils.atomic import write_json

OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"


def write_training_state(
    folder: Path,
    state: Mapping[str, Any],
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    averages: Mapping[str, Tensor] | None = None,
) -> None:
    """optimizer.safetensors with `<parameter>|<entry>` tensors, averages.safetensors if there are any, and state.json,
    which has `state` and those entries of the optimizer that are no tensors."""
    tensors, scalars = optimizer_entries(optimizer, parameters)
    write_tensors(folder / OPTIMIZER, tensors)
    if averages is not None:
        write_tensors(folder / EMA_WEIGHTS, averages)
    write_json(folder / STATE, {**state, "optimizer_scalars": scalars})


def optimizer_entries(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What an optimizer keeps, as `<parameter>|<entry>`: its tensors, and all else."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for name, parameter in parameters.items():
        for entry, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}|{entry}"] = value
            else:
                scalars[f"{name}|{entry}"] = value
    return tensors, scalars


def read_training_state(
    folder: Path,
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    averages: Mapping[str, Tensor] | None = None,
    orders: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Give the optimizer and the averages what they had; returns the `state`.

    orders: of some parameters by name, the order in which their rows are held.

    Raises FolderError when it belongs to other parameters.
    """
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if averages is not None:
        _restore(averages, folder, orders)
    entries: dict[str, Any] = {**read_tensors(folder / OPTIMIZER), **state["optimizer_scalars"]}
    by_name: dict[str, dict[str, Any]] = {}
    for key, value in entries.items():
        name, _, entry = key.partition("|")
        by_name.setdefault(name, {})[entry] = value
    for name in sorted(by_name.keys() - parameters.keys()):
        raise FolderError(f"{folder}: has optimizer state of {name}, which this model does not train")
    saved = optimizer.state_dict()
    order = {parameter: index for index, parameter in enumerate(_in_group_order(optimizer))}
    for name, own in by_name.items():
        parameter = parameters[name]
        for entry, value in own.items():
            # Entries as large as their parameter must be of its shape; counters and factored moments are not so large.
            as_large = isinstance(value, Tensor) and value.ndim > 0 and value.numel() == parameter.numel()
            if as_large and value.shape != parameter.shape:
                raise FolderError(f"{folder}: {entry} of {name} is {tuple(value.shape)}, not {tuple(parameter.shape)}")
            if isinstance(value, Tensor) and value.ndim > 0:
                own[entry] = distribute_like(parameter, reorder_rows(orders, name, value), replicate=not as_large)
        saved["state"][order[parameter]] = own
    optimizer.load_state_dict(saved)  # also puts the tensors where the parameters are
    return state


def _restore(averages: Mapping[str, Tensor], folder: Path, orders: Mapping[str, Tensor] | None) -> None:
    saved = read_tensors(folder / EMA_WEIGHTS)
    if saved.keys() != averages.keys():
        raise FolderError(f"{folder / EMA_WEIGHTS}: is of other parameters than this run trains")
    for name, value in averages.items():
        value.copy_(distribute_like(value, reorder_rows(orders, name, saved[name])))


def _in_group_order(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

"""The training state in a checkpoint: optimizer.safetensors by parameter name, averages.safetensors and state.json.

Data order, learning rate and dropout masks are functions of (seed, step), so nothing of them is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptzoo.checkpoint.model_folder import EMA_WEIGHTS, read_tensors, write_tensors
from gptzoo.checkpoint.sharded_tensors import distribute_like, is_dtensor, reorder_rows
from gptzoo.errors import FolderError
from gptzoo.utils.atomic import write_json

OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"


def write_checkpoint_state(
    folder: Path,
    state: Mapping[str, object],
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    ema: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the training state of a run with one process.

    optimizer.safetensors has the tensors of the optimizer as `<parameter>|<entry>`; state.json has `state`, and the
    entries that are not tensors. averages.safetensors is written if there is an EMA.
    """
    tensors, scalars = optimizer_entries(optimizer, parameters)
    write_tensors(folder / OPTIMIZER, tensors)
    if ema is not None:
        write_tensors(folder / EMA_WEIGHTS, ema)
    write_json(folder / STATE, {**state, "optimizer_scalars": scalars})


def optimizer_entries(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state of an optimizer by `<parameter>|<entry>`: its tensors, and all other values."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for name, parameter in parameters.items():
        for entry, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}|{entry}"] = value
            else:
                scalars[f"{name}|{entry}"] = value
    return tensors, scalars


def read_checkpoint_state(
    folder: Path,
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    ema: Mapping[str, Tensor] | None = None,
    row_orders: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Load a checkpoint's training state into the optimizer and the EMA; return the contents of state.json.

    row_orders: for some parameters, the order in which memory holds their rows.

    Raises FolderError if the state belongs to other parameters.
    """
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if ema is not None:
        _load_ema(ema, folder, row_orders)
    entries: dict[str, Any] = {**read_tensors(folder / OPTIMIZER), **state["optimizer_scalars"]}
    by_parameter: dict[str, dict[str, Any]] = {}
    for key, value in entries.items():
        name, _, entry = key.partition("|")
        by_parameter.setdefault(name, {})[entry] = value
    for name in sorted(by_parameter.keys() - parameters.keys()):
        raise FolderError(f"{folder}: has optimizer state for {name}, which is not a trained parameter of this model")
    state_dict = optimizer.state_dict()
    indices = {parameter: index for index, parameter in enumerate(_in_group_order(optimizer))}
    for name, values in by_parameter.items():
        parameter = parameters[name]
        for entry, value in values.items():
            # An entry with as many values as its parameter must have its shape. Counters and factored moments differ.
            same_size = isinstance(value, Tensor) and value.ndim > 0 and value.numel() == parameter.numel()
            if same_size and value.shape != parameter.shape:
                raise FolderError(
                    f"{folder}: {entry} of {name}: expected shape {tuple(parameter.shape)}, got {tuple(value.shape)}"
                )
            if isinstance(value, Tensor) and value.ndim > 0:
                ordered = reorder_rows(row_orders, name, value)
                distributed = distribute_like(parameter, ordered, replicate=not same_size)
                values[entry] = _with_strides_of(parameter, distributed) if same_size else distributed
        state_dict["state"][indices[parameter]] = values
    optimizer.load_state_dict(state_dict)  # also moves the tensors to the devices of the parameters
    return state


def _with_strides_of(parameter: Tensor, value: Tensor) -> Tensor:
    """Return `value` with the memory layout of its parameter, which torch's fused kernels take for granted."""
    if is_dtensor(parameter) or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _load_ema(ema: Mapping[str, Tensor], folder: Path, row_orders: Mapping[str, Tensor] | None) -> None:
    saved = read_tensors(folder / EMA_WEIGHTS)
    if saved.keys() != ema.keys():
        raise FolderError(f"{folder / EMA_WEIGHTS}: has other parameters than those that this run trains")
    for name, value in ema.items():
        value.copy_(distribute_like(value, reorder_rows(row_orders, name, saved[name])))


def _in_group_order(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

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
from gptzoo.checkpoint.records import read_record
from gptzoo.checkpoint.sharded_tensors import distribute_like, is_dtensor, reorder_rows
from gptzoo.errors import FolderError
from gptzoo.training.optim.optimizer_state import OptimizerEntries, load_optimizer_entries, optimizer_entries
from gptzoo.utils.atomic import write_json

OPTIMIZER = "optimizer.safetensors"
TRAINED_WEIGHTS = "trained.safetensors"  # in checkpoints of optimizers that evaluate other weights than they train
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
    entries that are not tensors, or hold several. averages.safetensors is written if there is an EMA.
    """
    entries = optimizer_entries(optimizer, parameters)
    write_tensors(folder / OPTIMIZER, entries.tensors)
    if ema is not None:
        write_tensors(folder / EMA_WEIGHTS, ema)
    write_json(folder / STATE, {**state, **entries.as_json()})


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
    state = read_state(folder)
    if ema is not None:
        _load_ema(ema, folder, row_orders)

    def place(name: str, value: Tensor) -> Tensor:
        parameter = parameters.get(name.partition("|")[0])
        value = value.clone()  # in memory that is aligned as torch aligns it: sums over it are equal bit for bit
        if parameter is None or value.ndim == 0:
            return value
        has_its_shape = value.shape == parameter.shape
        placed = distribute_like(parameter, reorder_rows(row_orders, name, value), replicate=not has_its_shape)
        return _with_strides_of(parameter, placed) if has_its_shape else placed

    entries = OptimizerEntries(
        read_tensors(folder / OPTIMIZER), state["optimizer_scalars"], state.get("optimizer") or {}
    )
    load_optimizer_entries(optimizer, parameters, entries, place=place, source=str(folder))
    return state


def read_state(folder: Path) -> dict[str, Any]:
    """Return the contents of a checkpoint's state.json. Raises FolderError if it has another form."""
    file = folder / STATE
    state = read_record(file)
    for key in ("standing", "loss_scale", "optimizer_scalars"):
        if not isinstance(state.get(key, {}), dict):
            raise FolderError(f"{file}: $.{key}: expected an object, got {json.dumps(state[key])[:80]}")
    if "optimizer_scalars" not in state:
        raise FolderError(f"{file}: $.optimizer_scalars: is missing")
    return state


def _with_strides_of(parameter: Tensor, value: Tensor) -> Tensor:
    """Return `value` with the memory layout of its parameter, which torch's fused kernels take for granted."""
    if is_dtensor(parameter) or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def load_trained_weights(
    parameters: Mapping[str, Tensor], folder: Path, row_orders: Mapping[str, Tensor] | None = None
) -> None:
    """Load the weights from which training continues, if a checkpoint has others than those of its model.

    Raises FolderError if they belong to another model.
    """
    file = folder / TRAINED_WEIGHTS
    if not file.is_file():
        return
    saved = read_tensors(file)
    if unknown := saved.keys() - parameters.keys():
        raise FolderError(f"{file}: {min(unknown)} is not part of the model")
    with torch.no_grad():
        for name, value in saved.items():
            parameters[name].copy_(distribute_like(parameters[name], reorder_rows(row_orders, name, value)))


def _load_ema(ema: Mapping[str, Tensor], folder: Path, row_orders: Mapping[str, Tensor] | None) -> None:
    saved = read_tensors(folder / EMA_WEIGHTS)
    if saved.keys() != ema.keys():
        raise FolderError(f"{folder / EMA_WEIGHTS}: has other parameters than those that this run trains")
    for name, value in ema.items():
        value.copy_(distribute_like(value, reorder_rows(row_orders, name, saved[name])))

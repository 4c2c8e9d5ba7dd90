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

from gptzoo.atomic import write_json
from gptzoo.checkpoint.folder import read_tensors, write_tensors
from gptzoo.errors import FolderError


def write_training_state(
    folder: Path, step: int, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> None:
    """optimizer.safetensors with `<parameter>|<entry>` tensors, and state.json."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for name, parameter in parameters.items():
        for entry, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}|{entry}"] = value
            else:
                scalars[f"{name}|{entry}"] = value
    write_tensors(folder / "optimizer.safetensors", tensors)
    write_json(folder / "state.json", {"step": step, "optimizer_scalars": scalars})


def read_training_state(folder: Path, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> int:
    """Give the optimizer its state back; returns the step. Raises FolderError when it belongs to other parameters."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    entries: dict[str, Any] = {**read_tensors(folder / "optimizer.safetensors"), **state["optimizer_scalars"]}
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
        saved["state"][order[parameter]] = own
    optimizer.load_state_dict(saved)  # also puts the tensors where the parameters are
    return int(state["step"])


def _in_group_order(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

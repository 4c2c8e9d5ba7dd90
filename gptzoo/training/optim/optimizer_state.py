"""The state of a torch optimizer by parameter name: everything that its `state_dict` has.

Entries of the state of a parameter are `<parameter>|<entry>`. Entries of parameter groups are stored if they have
changed since the optimizer was created, such as a step count: the others are options, which the spec sets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gptzoo.errors import FolderError
from gptzoo.training.optim.group_state import Groups, are_equal, changed_entries
from gptzoo.training.optim.state_values import Decoder, Encoder, UnsupportedValue, is_plain, stored_names


@dataclass(frozen=True)
class OptimizerEntries:
    """The state of an optimizer: tensors for a safetensors file, and the rest for state.json."""

    tensors: Mapping[str, Tensor]
    scalars: Mapping[str, Any]  # entries of parameters that are JSON values
    others: Mapping[str, Any]  # encoded: see `optimizer_entries`

    def as_json(self) -> dict[str, Any]:
        """Return the keys for state.json."""
        others = {key: value for key, value in self.others.items() if value}
        return {"optimizer_scalars": dict(self.scalars), **({"optimizer": others} if others else {})}


def optimizer_entries(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> OptimizerEntries:
    """Return the state of an optimizer. Raises UnsupportedValue, naming the entry that a checkpoint cannot hold.

    Its `others` are encoded values: `nested` entries of parameters, entries of `groups`, `global` state of no
    parameter, and `extra` keys of its state dict. `numbered` lists entries whose name is a number. `reshaped` lists
    entries with as many values as their parameter, in another shape.
    """
    encoder = Encoder(parameters, package_of(optimizer))
    scalars: dict[str, Any] = {}
    nested: dict[str, Any] = {}
    numbered: list[str] = []  # entries whose name is a number
    global_state: dict[str, Any] = {}
    names = {id(parameter): name for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for entry, value in optimizer.state.get(parameter, {}).items():
            key = f"{name}|{entry}"
            if type(entry) is int and str(entry) not in optimizer.state[parameter]:
                numbered.append(key)
            elif not isinstance(entry, str):
                raise UnsupportedValue(f"entry {entry!r} of {name} has a name that is no string and no number")
            if isinstance(value, Tensor) and encoder.store(value, key):
                continue
            if is_plain(value):
                scalars[key] = value
            else:
                nested[key] = encoder.encode(value, key)
    for owner, value in optimizer.state.items():
        if isinstance(owner, Tensor):
            if id(owner) not in names:
                raise UnsupportedValue(
                    f"the optimizer keeps state of a tensor of shape {tuple(owner.shape)}, no parameter"
                )
        elif isinstance(owner, str):
            global_state[owner] = encoder.encode(value, f"|{owner}")
        else:
            raise UnsupportedValue(f"the optimizer keeps state of {owner!r}, which is no parameter")
    groups = []
    for index, changed in enumerate(changed_entries(optimizer)):
        encoded = {key: encoder.encode(value, f"|groups|{index}|{key}") for key, value in changed.items()}
        members = [names[id(parameter)] for parameter in optimizer.param_groups[index]["params"]]
        if encoded:
            groups.append({"params": members, "entries": encoded})
    extra = {
        key: encoder.encode(value, f"|extra|{key}")
        for key, value in _own_state_dict(optimizer).items()
        if key not in ("state", "param_groups")
    }
    reshaped = [
        key for key, value in encoder.tensors.items() if _is_reshaped(value, parameters.get(key.partition("|")[0]))
    ]
    others = {
        "nested": nested,
        "numbered": sorted(numbered),  # a resumed run has its entries in another order
        "groups": groups,
        "global": global_state,
        "extra": extra,
        "reshaped": reshaped,
    }
    return OptimizerEntries(encoder.tensors, scalars, others)


def load_optimizer_entries(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    entries: OptimizerEntries,
    *,
    place: Callable[[str, Tensor], Tensor],
    source: str,
) -> None:
    """Load the entries of a checkpoint into an optimizer.

    place: returns a tensor of a checkpoint with the order of rows and the sharding of its parameter, by its name.
    source: the checkpoint, for error messages.

    Raises FolderError if the state belongs to other parameters, or has another form.
    """
    if not isinstance(entries.others, dict):
        raise FolderError(f"{source}: the optimizer state has another form than expected: {entries.others!r:.80}")
    reshaped = entries.others.get("reshaped", [])
    for name, value in entries.tensors.items():
        parameter = parameters.get(name.partition("|")[0])
        if name not in reshaped and parameter is not None and _is_reshaped(value, parameter):
            shape = tuple(parameter.shape)
            owner, _, entry = name.partition("|")
            raise FolderError(f"{source}: {entry} of {owner}: expected shape {shape}, got {tuple(value.shape)}")
    decoder = Decoder(lambda name: place(name, entries.tensors[name]), parameters, package_of(optimizer))
    nested = entries.others.get("nested", {})
    try:
        owned = stored_names([list(entries.others.get(key, {})) for key in ("groups",)]) | stored_names(
            [list(entries.others.get(key, {}).values()) for key in ("nested", "global", "extra")]
        )
        values: dict[str, Any] = {name: decoder.tensor(name) for name in entries.tensors if name not in owned}
        values |= dict(entries.scalars) | {key: decoder.decode(tree) for key, tree in nested.items()}
        extra = {key: decoder.decode(tree) for key, tree in entries.others.get("extra", {}).items()}
        global_state = {key: decoder.decode(tree) for key, tree in entries.others.get("global", {}).items()}
        saved_groups = [(group["params"], group["entries"]) for group in entries.others.get("groups", [])]
        group_entries = _entries_by_group(optimizer, parameters, saved_groups, decoder, source)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise FolderError(f"{source}: the optimizer state has another form than expected: {error}") from None
    numbered = frozenset(entries.others.get("numbered", ()))
    by_parameter: dict[str, dict[str | int, Any]] = {}
    for key, value in values.items():
        name, _, entry = key.partition("|")
        by_parameter.setdefault(name, {})[int(entry) if key in numbered else entry] = value
    for name in sorted(by_parameter.keys() - parameters.keys()):
        raise FolderError(f"{source}: has optimizer state for {name}, which is not a trained parameter of this model")

    state_dict = _own_state_dict(optimizer)
    indices = {
        parameter: index
        for index, parameter in enumerate(
            parameter for group in optimizer.param_groups for parameter in group["params"]
        )
    }
    state = {indices[parameters[name]]: entry for name, entry in by_parameter.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Casting complex values")  # `_undo_casts` restores them
        _load_state_dict(optimizer, state_dict, extra, {**state, **global_state}, group_entries)
    for group, new in zip(optimizer.param_groups, group_entries, strict=True):
        group.update(new)  # load_state_dict has copied them, so that a tensor that occurs twice would be two
    for name, saved in by_parameter.items():
        _undo_casts(optimizer.state[parameters[name]], saved, parameters[name])
    for owner, value in global_state.items():
        optimizer.state[owner] = value


def _load_state_dict(
    optimizer: torch.optim.Optimizer,
    state_dict: Mapping[str, Any],
    extra: Mapping[str, Any],
    state: Mapping[Any, Any],
    group_entries: Groups,
) -> None:
    """Call `load_state_dict`, which an optimizer may override, with its own state dict and the saved values."""
    if "param_groups" in state_dict:
        groups = [{**group, **new} for group, new in zip(state_dict["param_groups"], group_entries, strict=True)]
        optimizer.load_state_dict({**state_dict, **extra, "state": state, "param_groups": groups})
    else:  # a state dict of another form
        optimizer.load_state_dict({**state_dict, **extra})


def _is_reshaped(value: Tensor, parameter: Tensor | None) -> bool:
    """Return True for an entry with as many values as its parameter, in another shape."""
    if parameter is None or value.ndim == 0:
        return False
    return value.numel() == parameter.numel() and value.shape != parameter.shape


def _undo_casts(loaded: dict[str | int, Any], saved: Mapping[str | int, Any], parameter: Tensor) -> None:
    """Replace values that `load_state_dict` has converted: torch casts all tensors to the dtype of the parameter."""
    for entry, value in saved.items():
        now = loaded.get(entry)
        if isinstance(value, Tensor) and isinstance(now, Tensor):
            if now.dtype != value.dtype or now.device == value.device:
                loaded[entry] = value.to(now.device)
        else:
            loaded[entry] = _to_device(value, parameter.device)


def _to_device(value: Any, device: torch.device) -> Any:  # noqa: ANN401  a value of any type
    """Move the tensors of nested lists and dicts to a device; other values are returned unchanged."""
    if isinstance(value, Tensor) and value.ndim > 0 and not hasattr(value, "full_tensor"):
        return value.to(device)
    if isinstance(value, list):
        return [_to_device(item, device) for item in value]
    if type(value) is dict:
        return {key: _to_device(item, device) for key, item in value.items()}
    return tuple(_to_device(item, device) for item in value) if type(value) is tuple else value


def _entries_by_group(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    saved: list[tuple[list[str], dict[str, Any]]],
    decoder: Decoder,
    source: str,
) -> Groups:
    """Return the saved entries for each group of the optimizer, by the names of its parameters."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    owners = {name: entries for members, entries in saved for name in members}
    result: Groups = []
    for group in optimizer.param_groups:
        members = [names[id(parameter)] for parameter in group["params"]]
        trees = [owners.get(name, {}) for name in members] or [{}]
        decoded = [{key: decoder.decode(tree) for key, tree in entries.items()} for entries in trees[:1]]
        for name, entries in zip(members, trees, strict=False):
            if entries is not trees[0]:
                other = {key: decoder.decode(tree) for key, tree in entries.items()}
                if not are_equal(other, decoded[0]):
                    raise FolderError(
                        f"{source}: {members[0]} and {name} were in parameter groups with different states, and are in "
                        "one group now. Continue with the optimizer that the run began with"
                    )
        result.append(decoded[0])
    return result


def package_of(optimizer: torch.optim.Optimizer) -> str:
    """Return the top-level package of an optimizer's class."""
    return type(optimizer).__module__.partition(".")[0]


def _own_state_dict(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    state_dict: dict[str, Any] = optimizer.state_dict()
    return state_dict

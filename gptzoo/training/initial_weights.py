"""The initial weights of a run, from trained models with the same or with other parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gptzoo.checkpoint.model_folder import WEIGHTS, find_misfits, find_model_folder, read_tensors
from gptzoo.checkpoint.sharded_tensors import full_tensor
from gptzoo.components.positional import Positional
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from gptzoo.errors import DataError, FolderError, InputError
from gptzoo.spec.files import load_model_spec
from gptzoo.spec.initial_weights import InitSpec
from gptzoo.spec.model import ModelSpec
from gptzoo.utils.json_diff import differences
from gptzoo.utils.name_patterns import describe_names, matching

_MAX_LISTED = 5  # tensors or options named in one message


@dataclass
class InitialTensors:
    """The tensors that a model takes over, and the names of those that are new or left over."""

    taken: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)  # by name of the tensor: the folder
    new: dict[str, int] = field(default_factory=dict)  # by name: the number of values
    left_over: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def describe(self, seed: int) -> list[str]:
        """Return messages for the screen."""
        messages = []
        for folder in dict.fromkeys(self.sources.values()):
            names = [name for name, source in self.sources.items() if source == folder]
            messages.append(f"weights from {folder}: {len(names)} tensors")
        if self.new:
            messages.append(
                f"new, initialised with seed {seed}: {describe_names(self.new)} "
                f"({len(self.new)} tensors, {sum(self.new.values()):,} values)"
            )
        if self.left_over:
            messages.append(f"left over: {describe_names(self.left_over)} ({len(self.left_over)} tensors)")
        return messages + self.notes

    def record(self) -> dict[str, Any]:
        """Return the record for the run folder."""
        return {"taken": self.sources, "new": list(self.new), "left_over": self.left_over, "notes": self.notes}


def read_initial_weights(
    init: InitSpec, model: nn.Module, tensors: Mapping[str, Tensor], spec: ModelSpec, tokenizer: Tokenizer
) -> InitialTensors:
    """Read the tensors that a model takes over from the folders of `init`.

    tensors: the tensors of the model, by name. With several ranks they are DTensors.

    Raises InputError for a pattern that matches nothing, FolderError for weights that do not fit, and DataError for
    weights of another tokenizer.
    """
    result = InitialTensors()
    assigned = assign_parts(init, tensors)
    for pattern, path in init.parts.items():
        names = [name for name, part in assigned.items() if part == pattern]
        if path is None:
            result.new |= {name: tensors[name].numel() for name in names}
            continue
        where = _place_of(pattern)
        source = _Source(path, where, spec, tokenizer, result.notes)
        stored = {name: source.tensors[name] for name in matching(source.tensors, pattern)}
        if problems := find_misfits(stored, {name: tensors[name] for name in names}):
            raise FolderError(f"{where}: {source.folder}: the part does not fit: {_listed(problems)}")
        result.taken |= stored
        result.sources |= dict.fromkeys(stored, str(source.folder))
    rest = {name: tensor for name, tensor in tensors.items() if name not in assigned}
    if init.path is None:
        result.new |= {name: tensor.numel() for name, tensor in rest.items()}
        return result
    source = _Source(init.path, "init_from", spec, tokenizer, result.notes)
    stored = {
        name: tensor for name, tensor in source.tensors.items() if not any(matching([name], p) for p in init.parts)
    }
    result.left_over += sorted(source.tensors.keys() - stored.keys() - tensors.keys())
    _take_base(init, source, stored, rest, _position_tables(model), result)
    return result


def assign_parts(init: InitSpec, names: Iterable[str]) -> dict[str, str]:
    """Return the pattern of `init.parts` that matches each tensor of a model, for those with one, by name.

    Raises InputError for a pattern that matches nothing, and for a tensor that two patterns match.
    """
    names, assigned = list(names), dict[str, str]()
    for pattern in init.parts:
        matched = matching(names, pattern)
        if not matched:
            raise InputError(f"{_place_of(pattern)}: matches no tensor of the model. Tensors: {describe_names(names)}")
        if overlap := [name for name in matched if name in assigned]:
            raise InputError(
                f"{_place_of(pattern)}: {overlap[0]} is part of {assigned[overlap[0]]!r} too. Name each part once"
            )
        assigned |= dict.fromkeys(matched, pattern)
    return assigned


def _place_of(pattern: str) -> str:
    return f'$.init_from.parts["{pattern}"]'


class _Source:
    """A model folder whose tokenizer is that of the run."""

    def __init__(self, path: str, where: str, spec: ModelSpec, tokenizer: Tokenizer, notes: list[str]):
        self.folder = find_model_folder(Path(path))
        _check_tokenizer(self.folder, where, tokenizer)
        self.tensors = read_tensors(self.folder / WEIGHTS)
        stored_spec = load_model_spec(self.folder / "model.json")
        changes = [change.name for change in differences(_options(stored_spec), _options(spec))]
        if changes:
            notes.append(f"note: options that differ from the model in {self.folder}: {_listed(changes, ', ')}")


def _options(spec: ModelSpec) -> dict[str, Any]:
    return {key: value for key, value in spec.resolved().items() if key not in ("name", "spec_version")}


def _take_base(
    init: InitSpec,
    source: _Source,
    stored: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    tables: frozenset[str],
    result: InitialTensors,
) -> None:
    """Take the tensors that fit, and with `partial` leave the others over. Raises FolderError without it."""
    for name in tables & stored.keys() & expected.keys():
        n_rows, wanted = len(stored[name]), len(expected[name])
        if n_rows != wanted and stored[name].shape[1:] == expected[name].shape[1:]:
            if n_rows < wanted and not init.partial:
                continue
            result.notes.append(f"note: {name}: the first {min(n_rows, wanted)} of {wanted} positions are taken over")
            rows = stored[name][:wanted]
            if n_rows < wanted:
                full = full_tensor(expected[name]).detach().clone()
                full[:n_rows] = rows
                rows = full
            stored = {**stored, name: rows}
    problems = find_misfits(stored, expected)
    if problems and not init.partial:
        raise FolderError(
            f"init_from {source.folder}: {source.folder / WEIGHTS}: does not match the model of this run: "
            f'{_listed(problems)}. Use its model with "model": "{source.folder / "model.json"}", or take over what '
            'fits with "partial": true'
        )
    for name, tensor in expected.items():
        if name in stored and stored[name].shape == tensor.shape:
            result.taken[name] = stored[name]
            result.sources[name] = str(source.folder)
        else:
            result.new[name] = tensor.numel()
    result.left_over += sorted(name for name in stored if name not in result.taken)
    if not any(source_folder == str(source.folder) for source_folder in result.sources.values()):
        raise FolderError(f"init_from {source.folder}: no tensor has a name and shape of the model of this run")


def _position_tables(model: nn.Module) -> frozenset[str]:
    return frozenset(
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, Positional)
        for name in module.position_tables
    )


def _check_tokenizer(folder: Path, where: str, tokenizer: Tokenizer) -> None:
    file = folder / "tokenizer.json"
    if not file.exists():
        return
    stored = load_tokenizer(file)
    if (stored.config, stored.state) != (tokenizer.config, tokenizer.state):
        raise DataError(
            f"{where} {folder}: the weights belong to another tokenizer ({stored.config.type!r}) than this run's "
            f'({tokenizer.config.type!r}). Use it with "tokenizer": {{"type": "saved", "path": "{file}"}}'
        )


def _listed(items: Iterable[str], separator: str = "; ") -> str:
    items = list(items)
    more = f"{separator}and {len(items) - _MAX_LISTED} more" if len(items) > _MAX_LISTED else ""
    return separator.join(items[:_MAX_LISTED]) + more

"""Lazy access to the tensors of a safetensors checkpoint: names and shapes at once, values on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gptzoo.errors import FolderError
from gptzoo.spec.strict_json import parse_json

_SINGLE_FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, not read yet."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # the safetensors name: "F32", "BF16", …
    file: Any  # an open safetensors file

    def read(self) -> Tensor:
        tensor: Tensor = self.file.get_tensor(self.name)
        return tensor


def open_tensors(folder: Path) -> Mapping[str, StoredTensor]:
    """Return all tensors of the safetensors checkpoint in a folder, by name. It may be one file or sharded.

    Raises FolderError if there is no checkpoint, or if a file is missing, damaged, or contradicts the index.
    """
    if (folder / _SINGLE_FILE).exists():
        return _open_file(folder / _SINGLE_FILE)
    index_file = folder / _INDEX
    if not index_file.exists():
        raise FolderError(_no_tensors_message(folder))
    shard_of = read_json_object(index_file).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(shard, str) for shard in shard_of.values()):
        raise FolderError(f"{index_file}: $.weight_map: expected an object that maps tensor names to file names")
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(shard_of.values())):
        if Path(shard).name != shard:
            raise FolderError(f"{index_file}: $.weight_map: expected file names in the same folder, got {shard!r}")
        in_shard = _open_file(folder / shard)
        expected = {name for name, file_name in shard_of.items() if file_name == shard}
        if mismatched := in_shard.keys() ^ expected:
            raise FolderError(f"{folder / shard}: contents differ from {_INDEX}: {', '.join(sorted(mismatched))}")
        tensors |= in_shard
    return tensors


def read_json_object(file: Path) -> dict[str, Any]:
    """Return the object in a file of strict JSON. Raises FolderError, or SpecError if the file is not valid JSON."""
    try:
        value = parse_json(file.read_text(encoding="utf-8"), file.name)
    except OSError as error:
        raise FolderError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FolderError(f"{file}: expected UTF-8 text") from None
    if not isinstance(value, dict):
        raise FolderError(f"{file}: expected a JSON object")
    return value


def _open_file(file: Path) -> dict[str, StoredTensor]:
    try:
        opened: Any = safe_open(file, framework="pt")
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  it is not a mapping
    except FileNotFoundError:
        raise FolderError(f"{file}: no such file; the download of the checkpoint may be incomplete") from None
    except (SafetensorError, OSError) as error:
        raise FolderError(f"{file}: cannot be read; it is damaged or incomplete: {error}") from None
    return {name: StoredTensor(name, tuple(s.get_shape()), s.get_dtype(), opened) for name, s in slices.items()}


def _no_tensors_message(folder: Path) -> str:
    pickles = sorted(file.name for pattern in _PICKLE_PATTERNS for file in folder.glob(pattern))
    if pickles:
        return (
            f"{folder / pickles[0]}: is a pickle, which gptzoo does not load because it can run arbitrary code; "
            "load the model with transformers and save it again with save_pretrained(folder, safe_serialization=True)"
        )
    return f"{folder}: no {_SINGLE_FILE} or {_INDEX}; give a folder written by transformers' save_pretrained"

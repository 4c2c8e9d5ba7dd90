"""The tensors of a foreign checkpoint: their names and shapes at once, their values one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from gptzoo.errors import FolderError
from gptzoo.spec.files import parse_json

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Stored:
    """One tensor in a file, not read yet."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # as safetensors calls it: "F32", "BF16", …
    file: Any  # an open safetensors file

    def read(self) -> Tensor:
        return self.file.get_tensor(self.name)


def open_tensors(folder: Path) -> Mapping[str, Stored]:
    """Every tensor of the safetensors checkpoint in a folder, in one file or sharded, by its name.

    Raises FolderError when there is none, or a file is missing, damaged, or other than the index says.
    """
    if (folder / _SINGLE).exists():
        return _open(folder / _SINGLE)
    if not (folder / _INDEX).exists():
        raise FolderError(_why_no_tensors(folder))
    index = read_object(folder / _INDEX)
    shard_of = index.get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(shard, str) for shard in shard_of.values()):
        raise FolderError(f"{folder / _INDEX}: has no weight_map from the names of tensors to those of files")
    tensors: dict[str, Stored] = {}
    for shard in sorted(set(shard_of.values())):
        if Path(shard).name != shard:
            raise FolderError(f"{folder / _INDEX}: names the file {shard!r}, which is not one in the same folder")
        held = _open(folder / shard)
        if wrong := held.keys() ^ {name for name, where in shard_of.items() if where == shard}:
            raise FolderError(
                f"{folder / shard}: {_INDEX} says otherwise about what is in it: {', '.join(sorted(wrong))}"
            )
        tensors |= held
    return tensors


def read_object(file: Path) -> dict[str, Any]:
    """The object in a file of strict JSON. Raises FolderError, or SpecError for what is not JSON."""
    try:
        value = parse_json(file.read_text(encoding="utf-8"), file.name)
    except OSError as error:
        raise FolderError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FolderError(f"{file}: is not UTF-8 text") from None
    if not isinstance(value, dict):
        raise FolderError(f"{file}: is not a JSON object")
    return value


def _open(file: Path) -> dict[str, Stored]:
    try:
        opened = safe_open(file, framework="pt")
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    except FileNotFoundError:
        raise FolderError(f"{file}: no such file; the download of the checkpoint may not be complete") from None
    except (SafetensorError, OSError) as error:
        raise FolderError(f"{file}: cannot be read, it is damaged or not complete: {error}") from None
    return {name: Stored(name, tuple(piece.get_shape()), piece.get_dtype(), opened) for name, piece in slices.items()}


def _why_no_tensors(folder: Path) -> str:
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        return (
            f"{folder / pickles[0]}: is a pickle, which can run any code when it is read, so gptzoo does not read it; "
            "load the model with transformers and save it again: save_pretrained(folder, safe_serialization=True)"
        )
    return f"{folder}: has no {_SINGLE} and no {_INDEX}; give a folder that transformers' save_pretrained wrote"

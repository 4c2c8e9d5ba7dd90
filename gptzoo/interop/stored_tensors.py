"""Lazy access to the tensors of a checkpoint: names and shapes at once, values on demand."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gptzoo.checkpoint.sharded_tensors import DTYPE_NAMES
from gptzoo.errors import FolderError
from gptzoo.spec.strict_json import parse_json

TORCH_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
"""torch's types by their names in safetensors files."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, not read yet."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # the safetensors name: "F32", "BF16", …
    file: Any  # an object with get_tensor(name), such as an open safetensors file

    def read(self) -> Tensor:
        tensor: Tensor = self.file.get_tensor(self.name)
        return tensor


def open_tensors(folder: Path) -> Mapping[str, StoredTensor]:
    """Return all tensors of the checkpoint in a folder, by name. It may be one file or sharded.

    The files are memory-mapped. safetensors files are preferred to pickles, of which only tensors are loaded. Raises
    FolderError if there is no checkpoint, or if a file is missing, damaged, or contradicts the index.
    """
    for single_file, open_file in _FORMATS.items():
        index_file = folder / f"{single_file}.index.json"
        if (folder / single_file).exists():
            return open_file(folder / single_file)
        if index_file.exists():
            return _open_shards(index_file, open_file)
    names = ", ".join(_FORMATS)
    raise FolderError(
        f"{folder}: no {names} or the index of shards; give a folder written by transformers' save_pretrained"
    )


def _open_shards(index_file: Path, open_file: Callable[[Path], dict[str, StoredTensor]]) -> dict[str, StoredTensor]:
    shard_of = read_json_object(index_file).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(shard, str) for shard in shard_of.values()):
        raise FolderError(f"{index_file}: $.weight_map: expected an object that maps tensor names to file names")
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(shard_of.values())):
        if Path(shard).name != shard:
            raise FolderError(f"{index_file}: $.weight_map: expected file names in the same folder, got {shard!r}")
        in_shard = open_file(index_file.parent / shard)
        expected = {name for name, file_name in shard_of.items() if file_name == shard}
        if mismatched := in_shard.keys() ^ expected:
            listed = ", ".join(sorted(mismatched))
            raise FolderError(f"{index_file.parent / shard}: contents differ from {index_file.name}: {listed}")
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


def open_safetensors(file: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a safetensors file, memory-mapped. Raises FolderError if it is missing or damaged."""
    try:
        opened: Any = safe_open(file, framework="pt")
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  it is not a mapping
    except FileNotFoundError:
        raise _missing(file) from None
    except (SafetensorError, OSError) as error:
        raise FolderError(f"{file}: cannot be read; it is damaged or incomplete: {error}") from None
    return {name: StoredTensor(name, tuple(s.get_shape()), s.get_dtype(), opened) for name, s in slices.items()}


class _Pickle:
    """The tensors of a file that `torch.save` wrote."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        self._tensors = tensors

    def get_tensor(self, name: str) -> Tensor:
        return self._tensors[name].detach()


def _open_pickle(file: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a pickle, memory-mapped unless it has the format of before PyTorch 1.6.

    torch's unpickler for weights builds tensors and plain containers only, so no code of the file runs.
    """
    try:
        try:
            tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise _missing(file) from None
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):  # the name of a class or function
            raise _damaged(file, error) from None
        raise FolderError(
            f"{file}: holds other objects than tensors, which could run code, so it is not loaded. Load the model with "
            "transformers where you trust it, and save it again with save_pretrained(folder)"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise _damaged(file, error) from None
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise FolderError(f"{file}: expected a dict of tensors by name, as transformers' save_pretrained writes it")
    opened = _Pickle(tensors)
    return {
        name: StoredTensor(name, tuple(tensor.shape), DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype)), opened)
        for name, tensor in tensors.items()
    }


_FORMATS: Mapping[str, Callable[[Path], dict[str, StoredTensor]]] = {
    "model.safetensors": open_safetensors,
    "pytorch_model.bin": _open_pickle,
}


def _missing(file: Path) -> FolderError:
    return FolderError(f"{file}: no such file; the download of the checkpoint may be incomplete")


def _damaged(file: Path, error: Exception) -> FolderError:
    lines = str(error).splitlines() or [type(error).__name__]
    return FolderError(f"{file}: cannot be read; it is damaged or incomplete: {lines[-1] or lines[0]}")

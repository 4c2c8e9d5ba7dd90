"""Conversion of checkpoint tensors into a gptzoo state dict. All tensors are checked before the first one is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from gptzoo.checkpoint.stored_dtypes import NARROW_DTYPES
from gptzoo.errors import FolderError, PluginError
from gptzoo.interop.importer import Importer, Weight
from gptzoo.interop.stored_tensors import TORCH_DTYPES, StoredTensor
from gptzoo.spec.model import ModelSpec

_FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})
_MAX_LISTED = 10  # problems in one error message


class Conversion(Mapping[str, Tensor]):
    """The tensors of a gptzoo model, by name, each converted from a checkpoint when it is read.

    A tensor keeps the floating-point type of the checkpoint, such as bfloat16. Float64 becomes float32.
    """

    def __init__(self, weights: Sequence[Weight], sources: Mapping[str, StoredTensor]):
        self._weights = {weight.name: weight for weight in weights}
        self._sources = sources

    def __getitem__(self, name: str) -> Tensor:
        weight = self._weights[name]
        tensor = weight.convert(*(self._sources[source].read() for source in weight.source_names))
        for copy in weight.copies:
            if copy in self._sources and not torch.equal(self._sources[copy].read(), tensor):
                raise FolderError(
                    f"{self._sources[copy].name} differs from {self._sources[weight.source_names[0]].name}, although "
                    "config.json ties them; if they should differ, set tie_word_embeddings to false in config.json"
                )
        return tensor.to(_stored_dtype(tensor)).contiguous()

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def on_meta(self) -> dict[str, Tensor]:
        """Return tensors of the same shapes and types on the meta device, without reading any values."""
        tensors = {}
        for name, weight in self._weights.items():
            tensor = weight.convert(*(_on_meta(self._sources[source]) for source in weight.source_names))
            tensors[name] = tensor.to(_stored_dtype(tensor))
        return tensors


def convert(
    importer: Importer, spec: ModelSpec, stored: Mapping[str, StoredTensor], expected: Mapping[str, Tensor]
) -> Conversion:
    """Return the tensors of a model with the names and shapes of `expected`, which may be on the meta device.

    Raises FolderError with a list of the checkpoint tensors that are missing, unexpected, or of the wrong shape or
    type. Raises PluginError if the importer's weights do not match its spec.
    """
    weights = list(importer.weights(spec))
    if mismatched := expected.keys() ^ {weight.name for weight in weights}:
        raise PluginError(
            f"importer {importer.name!r}: weights() does not match the model that spec() describes: "
            f"{', '.join(sorted(mismatched))}"
        )
    sources = _without_prefix(stored, importer.prefix)
    problems = [*_name_problems(importer, weights, sources), *_shape_problems(weights, sources, expected)]
    if problems:
        raise FolderError(
            _format_problems(f"the tensors do not match the {importer.name} model that config.json describes", problems)
        )
    return Conversion(weights, sources)


def _stored_dtype(tensor: Tensor) -> torch.dtype:
    return tensor.dtype if tensor.dtype in NARROW_DTYPES else torch.float32


def _float_on_meta(tensor: StoredTensor) -> Tensor:
    return torch.empty(tensor.shape, device="meta")


def _on_meta(tensor: StoredTensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=TORCH_DTYPES[tensor.dtype], device="meta")


def _without_prefix(stored: Mapping[str, StoredTensor], prefix: str) -> dict[str, StoredTensor]:
    short: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        existing = short.setdefault(name.removeprefix(prefix), tensor)
        if existing is not tensor:
            raise FolderError(f"{existing.name} and {name}: the checkpoint holds the same weight under two names")
    return short


def _name_problems(importer: Importer, weights: Sequence[Weight], sources: Mapping[str, StoredTensor]) -> Iterator[str]:
    required = {name for weight in weights for name in weight.source_names}
    known = required | {name for weight in weights for name in weight.copies}
    yield from (f"{name} is missing" for name in sorted(required - sources.keys()))
    for name in sorted(sources.keys() - known):
        if not re.fullmatch(importer.ignored, name):
            yield f"{sources[name].name} is unexpected"
    for name in sorted(known & sources.keys()):
        if sources[name].dtype not in _FLOAT_DTYPES:
            yield f"{sources[name].name} has dtype {sources[name].dtype}, expected a 16, 32 or 64 bit float"


def _shape_problems(
    weights: Sequence[Weight], sources: Mapping[str, StoredTensor], expected: Mapping[str, Tensor]
) -> Iterator[str]:
    for weight in weights:
        if not all(name in sources for name in weight.source_names):
            continue
        inputs = [sources[name] for name in weight.source_names]
        try:
            shape = tuple(weight.convert(*map(_float_on_meta, inputs)).shape)
        except (RuntimeError, IndexError):  # torch raises these for incompatible shapes
            shape = None
        expected_shape = tuple(expected[weight.name].shape)
        if shape != expected_shape:
            listed = " and ".join(f"{tensor.name} {tensor.shape}" for tensor in inputs)
            yield f"{listed} cannot be converted to {weight.name} {expected_shape}"


def _format_problems(message: str, problems: Sequence[str]) -> str:
    more = [f"and {len(problems) - _MAX_LISTED} more"] if len(problems) > _MAX_LISTED else []
    return "\n  ".join([f"{message}:", *problems[:_MAX_LISTED], *more])

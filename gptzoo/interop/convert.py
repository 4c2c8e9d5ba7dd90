"""Conversion of checkpoint tensors into a gptzoo state dict. All tensors are checked before the first one is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from gptzoo.errors import FolderError, PluginError
from gptzoo.interop.importer import Importer, Weight
from gptzoo.interop.stored_tensors import StoredTensor
from gptzoo.spec.model import ModelSpec

_FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})
_MAX_LISTED = 10  # problems in one error message


def convert(
    importer: Importer, spec: ModelSpec, stored: Mapping[str, StoredTensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return a float32 state dict with the names and shapes of `expected`, which may be on the meta device.

    Tensors are read one at a time, to keep peak memory near the size of the model. Raises FolderError with a list of
    the checkpoint tensors that are missing, unexpected, or of the wrong shape or type. Raises PluginError if the
    importer's weights do not match its spec.
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
    return {weight.name: _read(weight, sources) for weight in weights}


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
            shape = tuple(weight.convert(*(torch.empty(tensor.shape, device="meta") for tensor in inputs)).shape)
        except (RuntimeError, IndexError):  # torch raises these for incompatible shapes
            shape = None
        expected_shape = tuple(expected[weight.name].shape)
        if shape != expected_shape:
            listed = " and ".join(f"{tensor.name} {tensor.shape}" for tensor in inputs)
            yield f"{listed} cannot be converted to {weight.name} {expected_shape}"


def _read(weight: Weight, sources: Mapping[str, StoredTensor]) -> Tensor:
    tensor = weight.convert(*(sources[name].read() for name in weight.source_names))
    for name in weight.copies:
        if name in sources and not torch.equal(sources[name].read(), tensor):
            raise FolderError(
                f"{sources[name].name} differs from {sources[weight.source_names[0]].name}, although config.json ties "
                "them; if they are meant to differ, set tie_word_embeddings to false in config.json"
            )
    return tensor.float().contiguous()


def _format_problems(message: str, problems: Sequence[str]) -> str:
    more = [f"and {len(problems) - _MAX_LISTED} more"] if len(problems) > _MAX_LISTED else []
    return "\n  ".join([f"{message}:", *problems[:_MAX_LISTED], *more])

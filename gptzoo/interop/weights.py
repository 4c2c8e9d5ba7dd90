"""The tensors of a checkpoint under our names: all checked before the first is read, then read one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from gptzoo.errors import FolderError, PluginError
from gptzoo.interop.importer import Importer, Weight
from gptzoo.interop.tensors import Stored
from gptzoo.spec.model import ModelSpec

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_MOST_SHOWN = 10


def convert(
    importer: Importer, spec: ModelSpec, stored: Mapping[str, Stored], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state dict that `expected` (on the meta device) has the names and shapes of, in float32.

    No more than one tensor is held twice. Raises FolderError that lists the tensors of the checkpoint that are missing,
    unexpected or of the wrong shape or type, and PluginError when the importer itself does not fit its spec.
    """
    weights = list(importer.weights(spec))
    if wrong := expected.keys() ^ {weight.name for weight in weights}:
        raise PluginError(
            f"importer {importer.name!r}: its spec and its weights do not fit each other: {', '.join(sorted(wrong))}"
        )
    sources = _without_prefix(stored, importer.prefix)
    problems = [*_name_problems(importer, weights, sources), *_shape_problems(weights, sources, expected)]
    if problems:
        raise FolderError(
            _listed(f"the tensors are not those of the {importer.name} that config.json describes", problems)
        )
    return {weight.name: _read(weight, sources) for weight in weights}


def _without_prefix(stored: Mapping[str, Stored], prefix: str) -> dict[str, Stored]:
    short: dict[str, Stored] = {}
    for name, tensor in stored.items():
        other = short.setdefault(name.removeprefix(prefix), tensor)
        if other is not tensor:
            raise FolderError(f"two tensors of the checkpoint are one weight: {other.name} and {name}")
    return short


def _name_problems(importer: Importer, weights: list[Weight], sources: Mapping[str, Stored]) -> Iterator[str]:
    wanted = {name for weight in weights for name in weight.all_sources}
    known = wanted | {name for weight in weights for name in weight.copies}
    yield from (f"{name} is missing" for name in sorted(wanted - sources.keys()))
    for name in sorted(sources.keys() - known):
        if not re.fullmatch(importer.ignored, name):
            yield f"{sources[name].name} is unexpected"
    for name in sorted(known & sources.keys()):
        if sources[name].dtype not in _FLOATS:
            yield f"{sources[name].name} has the type {sources[name].dtype}, which is not a float of 16, 32 or 64 bits"


def _shape_problems(
    weights: list[Weight], sources: Mapping[str, Stored], expected: Mapping[str, Tensor]
) -> Iterator[str]:
    for weight in weights:
        if not all(name in sources for name in weight.all_sources):
            continue
        inputs = [sources[name] for name in weight.all_sources]
        try:
            shape = tuple(weight.convert(*(torch.empty(tensor.shape, device="meta") for tensor in inputs)).shape)
        except (RuntimeError, IndexError):  # what torch raises for shapes that do not go together
            shape = None
        wanted = tuple(expected[weight.name].shape)
        if shape != wanted:
            found = " and ".join(f"{tensor.name} {tensor.shape}" for tensor in inputs)
            yield f"{found} cannot be {weight.name} {wanted}"


def _read(weight: Weight, sources: Mapping[str, Stored]) -> Tensor:
    tensor = weight.convert(*(sources[name].read() for name in weight.all_sources))
    for name in weight.copies:
        if name in sources and not torch.equal(sources[name].read(), tensor):
            raise FolderError(
                f"{sources[name].name} is not the same as {sources[weight.all_sources[0]].name}, "
                "though config.json ties them; set its tie_word_embeddings to false if they are meant to differ"
            )
    return tensor.float().contiguous()


def _listed(what: str, problems: list[str]) -> str:
    more = [f"and {len(problems) - _MOST_SHOWN} more"] if len(problems) > _MOST_SHOWN else []
    return "\n  ".join([f"{what}:", *problems[:_MOST_SHOWN], *more])

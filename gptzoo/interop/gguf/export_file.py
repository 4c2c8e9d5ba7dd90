"""Export of a model as a GGUF file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import FolderError, Problem, SpecError
from gptzoo.interop.export import NativeExport, NoFamilyError, families, native_export
from gptzoo.interop.exporting.stored_model import StoredModel
from gptzoo.interop.gguf.architecture import GgufArchitecture
from gptzoo.interop.gguf.import_file import read_gguf_spec
from gptzoo.interop.gguf.reader import GgufFile, GgufTensor, import_gguf_package
from gptzoo.interop.gguf.rope import FREQUENCY_FACTORS, frequency_factors
from gptzoo.interop.gguf.tensors import gguf_tensors
from gptzoo.interop.gguf.tokenizer_out import tokenizer_metadata
from gptzoo.interop.gguf.writer import GgufType, write_gguf
from gptzoo.model.architecture import Architecture
from gptzoo.spec.canonical import Difference, canonical, compare
from gptzoo.spec.model import ModelSpec

_MAX_ARCHITECTURES = 3  # in an error message
_MAX_REASONS = 4  # of each architecture
_TOLERANCE = 1e-6  # relative; metadata are float32


@dataclass(frozen=True)
class GgufExport:
    """A summary of an export."""

    architecture: str
    family: str
    n_tensors: int
    notes: tuple[str, ...]  # for the user


def export_gguf(
    model: Architecture | StoredModel,
    tokenizer: Tokenizer | None,
    file: Path,
    file_type: GgufType = "f32",
    *,
    name: str = "",
) -> GgufExport:
    """Write a model as a GGUF file for llama.cpp, atomically.

    name: name of the model in the file. Default: that of its spec.

    Besides the tensors of a model that is in memory, there is one tensor in memory at a time.

    Raises SpecError, with the reasons, if no architecture of llama.cpp computes the model. Raises DataError if
    llama.cpp cannot express the tokenizer, and FolderError if the file exists or cannot be written.
    """
    import_gguf_package()
    if file.exists():
        raise FolderError(f"{file}: already exists; choose another name")
    found = _find(model)
    native, architecture = found.native, found.architecture
    values, notes = tokenizer_metadata(tokenizer, model.spec.vocab_size or 0)
    write_gguf(
        file,
        architecture.name,
        {"general.name": name or model.spec.name, **_metadata(architecture, native.spec), **values},
        {name: header.shape for name, header in found.headers.items()},
        _tensors(architecture, native.spec, found.tensors),
        file_type,
    )
    return GgufExport(
        architecture.name, native.family, len(found.headers), (*native.notes, *architecture.notes, *notes)
    )


@dataclass(frozen=True)
class _Found:
    """An architecture of llama.cpp that computes a model."""

    native: NativeExport
    architecture: GgufArchitecture
    tensors: Mapping[str, Tensor]  # of the checkpoint, computed when they are asked for
    headers: Mapping[str, GgufTensor]  # of the file


def _find(model: Architecture | StoredModel) -> _Found:
    """Return the first architecture of llama.cpp that computes a model. Raises SpecError if there is none."""
    refusals: list[tuple[str, list[Problem]]] = []  # of families of transformers
    refusals_of_llama_cpp: list[tuple[str, list[Problem]]] = []  # of families that compute the model in transformers
    for importer in families():
        if not importer.gguf:
            continue
        try:
            native = native_export(model.spec, importer.name)
        except NoFamilyError as error:
            refusals.append((importer.gguf[0].name, list(error.problems)))
            continue
        tensors = native.tensors(model.state_dict())
        for description in importer.gguf:
            architecture = description()
            headers: dict[str, GgufTensor] = {}
            problems = list(_problems(architecture, native, tensors, headers))
            if not problems:
                return _Found(native, architecture, tensors, headers)
            refusals_of_llama_cpp.append((architecture.name, problems))
    for found in (refusals, refusals_of_llama_cpp):
        found.sort(key=lambda refusal: len(refusal[1]))
    raise _NoArchitectureError([*refusals_of_llama_cpp, *refusals])


class _NoArchitectureError(SpecError):
    def __init__(self, refusals: list[tuple[str, list[Problem]]]):
        super().__init__([problem for _, problems in refusals for problem in problems])
        lines = ["no architecture of llama.cpp computes this model. The closest ones:"]
        for name, problems in refusals[:_MAX_ARCHITECTURES]:
            lines += [f"  {name}: {problem.path}: {problem.reason}" for problem in problems[:_MAX_REASONS]]
            if (n_more := len(problems) - _MAX_REASONS) > 0:
                lines.append(f"  {name}: and {n_more} more differences")
        self.args = ("\n".join(lines),)


def _problems(
    architecture: GgufArchitecture,
    native: NativeExport,
    tensors: Mapping[str, Tensor],
    headers: dict[str, GgufTensor],
) -> Iterator[Problem]:
    """Yield the reasons for which a GGUF file of an architecture would not be the same model.

    The file is read back: its metadata must give the same spec, and it must hold all tensors.

    headers: a dict to which the headers of the file's tensors are added.
    """
    for limit in architecture.limits(native.spec):
        yield Problem(architecture.name, "$", limit)
    try:
        for name, tensor in _tensors(architecture, native.spec, tensors):
            headers[name] = _header(name, tensor)
        content = GgufFile(
            Path("the exported file"),
            {"general.architecture": architecture.name, **_metadata(architecture, native.spec)},
            headers,
        )
        read = canonical(read_gguf_spec(native.importer, architecture, content, native.spec.name))
    except KeyError as error:
        yield Problem(architecture.name, "$", f"this architecture has no tensor for {error.args[0]}")
        return
    except SpecError as error:
        for problem in error.problems:
            is_unknown = problem.reason.startswith("unknown setting")
            reason = "llama.cpp does not read this metadata for this architecture" if is_unknown else problem.reason
            yield Problem(architecture.name, problem.path, reason)
        return
    for difference in compare(canonical(native.spec), read):
        if not difference.training_only and not _is_same(difference, architecture):
            reason = f"the model has {difference.ours}, {architecture.name} has {difference.theirs}"
            yield Problem(architecture.name, difference.path, reason)


def _is_same(difference: Difference, architecture: GgufArchitecture) -> bool:
    ours, theirs = difference.ours, difference.theirs
    if isinstance(ours, int | float) and isinstance(theirs, int | float) and not isinstance(ours, bool):
        return math.isclose(ours, theirs, rel_tol=_TOLERANCE)
    return difference.path == "$.tie_embeddings" and architecture.needs_output


def _metadata(architecture: GgufArchitecture, spec: ModelSpec) -> dict[str, Any]:
    return {f"{architecture.name}.{key}": value for key, value in architecture.metadata(spec).items()}


def _tensors(
    architecture: GgufArchitecture, spec: ModelSpec, tensors: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    yield from gguf_tensors(architecture, spec, tensors)
    if (factors := frequency_factors(spec)) is not None:
        yield FREQUENCY_FACTORS, factors


def _header(name: str, tensor: Tensor) -> GgufTensor:
    """Return a tensor as it would be read back, with its values only if metadata follow from them."""
    values = tensor.numpy() if name == FREQUENCY_FACTORS else np.zeros(0, dtype=np.float32)
    quantization = import_gguf_package().GGMLQuantizationType.F32
    return GgufTensor(name, tuple(tensor.shape), quantization, values.view(np.uint8))

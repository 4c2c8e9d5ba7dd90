"""Import of a GGUF file as a model folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gptzoo import registry
from gptzoo.checkpoint.model_folder import require_empty_folder, save_tensors_as_model
from gptzoo.data.tokenizers.special_tokens import add_special_tokens
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import FolderError, Problem, SpecError
from gptzoo.interop.convert import convert
from gptzoo.interop.gguf.architecture import GgufArchitecture
from gptzoo.interop.gguf.metadata import NO_EFFECT, GgufMetadata
from gptzoo.interop.gguf.reader import GgufFile, open_gguf
from gptzoo.interop.gguf.tensors import checkpoint_tensors, correspondences
from gptzoo.interop.gguf.tokenizer_in import GgufTokenizer
from gptzoo.interop.hugging_face import ImportResult
from gptzoo.interop.importer import Importer
from gptzoo.interop.read_spec import IMPORTERS_ARE_PLUGINS, read_spec
from gptzoo.interop.settings import Settings
from gptzoo.interop.stored_tensors import StoredTensor
from gptzoo.interop.tokenizer_files import TokenizerFiles
from gptzoo.model.build import build_on_meta
from gptzoo.spec.model import ModelSpec

_MAX_LISTED = 10  # problems in one error message


def import_gguf(source: Path, out: Path) -> ImportResult:
    """Convert a GGUF file and write it as a model folder to `out`, atomically.

    Weights of 16 bits keep their type, quantised ones become float32. One tensor is in memory at a time.

    Raises SpecError if no importer reads the architecture, or if a gptzoo spec cannot express the metadata. Raises
    FolderError if `out` is not empty, or if the file is damaged or lacks tensors that its metadata describe.
    """
    require_empty_folder(out)
    content = open_gguf(source)
    importer, architecture = find_architecture(content)
    spec = read_gguf_spec(importer, architecture, content, source.stem)
    stored = checkpoint_tensors(architecture, spec, content.tensors)
    _require_tensors(content, importer, architecture, spec, stored)  # before a model of untrusted sizes is built
    model = build_on_meta(spec)
    try:
        tensors = convert(importer, spec, stored, model.state_dict())
    except FolderError as error:
        raise FolderError(f"{source}: {str(error).replace('that config.json describes', 'of its metadata')}") from None
    tokenizer, notes = _read_tokenizer(content, spec)
    save_tensors_as_model(out, model, tokenizer, tensors, tensors.on_meta())
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return ImportResult(importer.name, spec, len(content.tensors), n_parameters, tokenizer, tuple(notes))


def _read_tokenizer(content: GgufFile, spec: ModelSpec) -> tuple[Tokenizer | None, list[str]]:
    """Return the tokenizer of a file, if it has one that gptzoo can read, and notes for the user."""
    described = GgufTokenizer(content)
    if not described.files:
        return None, described.notes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, values in described.files.items():
            (folder / file).write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
        files = TokenizerFiles(folder, spec.vocab_size or 0)
        try:
            tokenizer = files.read()
        except FolderError as error:
            reason = str(error).replace(str(folder), str(content.file))
            raise FolderError(f"{content.file}: its tokenizer cannot be read: {reason}") from None
    special = tokenizer.special_tokens
    if special is not None:  # they come from this file
        sources = dict.fromkeys(special.sources, (content.file.name,))
        state = add_special_tokens(tokenizer.state, replace(special, sources=sources))
        tokenizer = tokenizer.config.build(state)
    return tokenizer, [*described.notes, *files.notes]


def find_architecture(content: GgufFile) -> tuple[Importer, GgufArchitecture]:
    """Return the importer that reads a file, with its description of such files. Raises SpecError if there is none."""
    metadata = GgufMetadata(content)
    importers: Mapping[str, Any] = registry.current().of_kind("importer")
    known = set()
    for importer in importers.values():
        for description in importer.gguf:
            architecture: GgufArchitecture = description()
            known.add(architecture.name)
            if architecture.name == metadata.architecture and architecture.matches(metadata):
                built: Importer = importer.Config().build()
                return built, architecture
    reason = (
        f"no importer for the architecture {metadata.architecture!r}  (known: {', '.join(sorted(known))}). "
        f"{IMPORTERS_ARE_PLUGINS}"
    )
    raise SpecError([Problem(content.file.name, "general.architecture", reason)])


def read_gguf_spec(importer: Importer, architecture: GgufArchitecture, content: GgufFile, name: str) -> ModelSpec:
    """Return the spec that the metadata of a file describe. Raises SpecError."""
    metadata = GgufMetadata(content)
    values = architecture.settings(metadata)
    metadata.require_all_read(NO_EFFECT | architecture.no_effect)
    source = f"{content.file.name}, translated to the config.json of {importer.name}"
    return read_spec(importer, Settings(values, source), name=name, file=content.file.name)


def _require_tensors(
    content: GgufFile,
    importer: Importer,
    architecture: GgufArchitecture,
    spec: ModelSpec,
    stored: Mapping[str, StoredTensor],
) -> None:
    """Raise FolderError, with the names in the file, if a tensor that the model needs is missing."""
    holders = {name: pair.gguf for pair in correspondences(architecture, spec) for name in pair.checkpoint}
    short = {name.removeprefix(importer.prefix): name for name in holders}
    required = {source for weight in importer.weights(spec) for source in weight.source_names}
    missing = {holders[short[name]] for name in required if name in short and short[name] not in stored}
    if missing:
        listed = sorted(missing)[:_MAX_LISTED]
        more = f" and {len(missing) - _MAX_LISTED} more" if len(missing) > _MAX_LISTED else ""
        raise FolderError(f"{content.file}: tensors that the metadata describe are missing: {', '.join(listed)}{more}")

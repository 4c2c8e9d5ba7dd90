"""Import of a Hugging Face `transformers` checkpoint folder as a model folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo import registry
from gptzoo.checkpoint.model_folder import require_empty_folder, save_tensors_as_model
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError, FolderError, Problem, SpecError
from gptzoo.interop.convert import convert
from gptzoo.interop.importer import Importer
from gptzoo.interop.quantised import Quantisation, dequantise, read_quantisation
from gptzoo.interop.read_spec import IMPORTERS_ARE_PLUGINS, read_spec
from gptzoo.interop.settings import Settings
from gptzoo.interop.stored_tensors import StoredTensor, open_tensors, read_json_object
from gptzoo.interop.tokenizer_files import TOKENIZER, TokenizerFiles
from gptzoo.model.build import build_on_meta
from gptzoo.reference import Reference
from gptzoo.spec.model import ModelSpec

_CONFIG = "config.json"


@dataclass(frozen=True)
class ImportResult:
    """A summary of an import."""

    family: str  # name of the importer
    spec: ModelSpec
    n_tensors: int  # tensors in the checkpoint
    n_parameters: int
    tokenizer: Tokenizer | None
    notes: tuple[str, ...]  # for the user, such as a missing tokenizer


def import_folder(source: Path, out: Path, *, name: str | None = None) -> ImportResult:
    """Convert the checkpoint in `source` and write it as a model folder to `out`, atomically.

    Weights of 16 bits keep their type.

    name: name of the model in its spec. Default: the name of the folder.

    Raises SpecError with every setting of config.json that a gptzoo spec cannot express. Raises FolderError if `out` is
    not empty, or if a file is missing, damaged, or does not match config.json.
    """
    require_empty_folder(out)  # first, because reading a checkpoint may take minutes
    if source.suffix == ".gguf":
        raise FolderError(f"{source}: is a GGUF file; import it with gptzoo import-gguf")
    if not source.is_dir():
        problem = "is a file" if source.exists() else "no such folder"
        raise FolderError(
            f"{source}: {problem}. Give a folder that transformers' save_pretrained wrote, or the name of a model "
            "on the Hugging Face Hub, ORG/NAME"
        )
    all_settings = read_json_object(source / _CONFIG)
    settings, path = _text_settings(all_settings)
    settings, quantisation = _without_quantisation(settings, all_settings, path)
    importer = _find_importer(settings)
    spec = read_spec(importer, Settings(settings, _CONFIG, path), name=name or source.resolve().name, file=_CONFIG)
    stored, notes = dequantise(open_tensors(source), quantisation)
    model = build_on_meta(spec)
    tokenizer, tokenizer_notes = _read_tokenizer(source, importer, spec)
    notes += tokenizer_notes
    if path != "$":
        n_tensors = len(stored)
        stored = _text_tensors(stored)
        notes.append(f"only the text model is imported: {n_tensors - len(stored)} other tensors are left out")
    tensors = convert(importer, spec, stored, model.state_dict())
    save_tensors_as_model(out, model, tokenizer, tensors, tensors.on_meta())
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return ImportResult(importer.name, spec, len(stored), n_parameters, tokenizer, tuple(notes))


def _text_settings(settings: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the settings of the text model and their path: `$`, or `text_config` in a model that also reads images."""
    known, text = registry.current().of_kind("importer"), settings.get("text_config")
    if settings.get("model_type") in known or not isinstance(text, dict) or text.get("model_type") not in known:
        return settings, "$"
    if "tie_word_embeddings" in settings:
        text = {"tie_word_embeddings": settings["tie_word_embeddings"], **text}
    return text, "$.text_config"


def _without_quantisation(
    settings: dict[str, Any], all_settings: dict[str, Any], path: str
) -> tuple[dict[str, Any], Quantisation | None]:
    """Return the settings without a `quantization_config` that gptzoo knows, and the quantisation."""
    key = "quantization_config"
    place, holder = (path, settings) if settings.get(key) is not None else ("$", all_settings)
    quantisation = read_quantisation(holder.get(key), f"{place}.{key}", holder.get("dtype", holder.get("torch_dtype")))
    if quantisation is None:  # the importer rejects a method that gptzoo does not know
        return ({**settings, key: holder[key]} if holder.get(key) is not None else settings), None
    return {name: value for name, value in settings.items() if name != key}, quantisation


def _text_tensors(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Return the tensors of the text model, by the names that they have in a checkpoint without images."""
    tensors = {}
    for name, tensor in stored.items():
        if name.startswith("model.language_model."):
            tensors["model." + name.removeprefix("model.language_model.")] = tensor
        elif name.startswith("language_model."):  # of older versions
            tensors[name.removeprefix("language_model.")] = tensor
        elif name.startswith("lm_head."):
            tensors[name] = tensor
    return tensors


def _find_importer(settings: dict[str, Any]) -> Importer:
    family = settings.get("model_type")
    if not isinstance(family, str):
        known = ", ".join(registry.current().of_kind("importer"))
        raise SpecError([Problem(_CONFIG, "$.model_type", f"expected the name of a model family  (known: {known})")])
    try:
        importer: Importer = registry.current().get("importer", family).Config().build()
    except LookupError as error:
        known = ", ".join(registry.current().of_kind("importer"))
        reason = f"no importer for the model family {family!r}  (known: {known}). {IMPORTERS_ARE_PLUGINS}"
        raise SpecError([Problem(_CONFIG, "$.model_type", reason)]) from error
    return importer


def _read_tokenizer(folder: Path, importer: Importer, spec: ModelSpec) -> tuple[Tokenizer | None, list[str]]:
    """Return the tokenizer of a checkpoint, if there is one, and notes for the user."""
    files = TokenizerFiles(folder, spec.vocab_size or 0)
    if (folder / TOKENIZER).exists():
        return files.read(), files.notes
    missing = f"no {TOKENIZER} in the checkpoint"
    no_tokenizer = "no tokenizer: gptzoo sample cannot read or write text with this model"
    reference = importer.tokenizer(spec)
    if reference is None:
        return None, [missing, no_tokenizer]
    try:
        config: Any = Reference("tokenizer").validate(reference)
        tokenizer: Tokenizer = config.build()
    except DataError as error:
        return None, [f"{missing}, and {error}", no_tokenizer]
    tokenizer = files.complete(tokenizer)
    return tokenizer, [f"{missing}: using {json.dumps(reference)}, which has the same vocab_size", *files.notes]

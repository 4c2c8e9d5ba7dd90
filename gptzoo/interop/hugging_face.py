"""From a checkpoint folder of Hugging Face `transformers` to a model folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo import registry
from gptzoo.checkpoint.model_folder import refuse_used, save_model
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError, FolderError, Problem, SpecError
from gptzoo.interop.importer import Importer
from gptzoo.interop.settings import Settings
from gptzoo.interop.tensors import open_tensors, read_object
from gptzoo.interop.weights import convert
from gptzoo.model.build import assemble
from gptzoo.reference import Reference
from gptzoo.spec.files import load_model_spec
from gptzoo.spec.model import ModelSpec

_CONFIG = "config.json"
_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Imported:
    """What came out of a checkpoint."""

    family: str
    spec: ModelSpec
    n_tensors: int  # in the checkpoint
    n_parameters: int
    tokenizer: Tokenizer | None
    notes: tuple[str, ...]  # what the user should know


def import_folder(source: Path, out: Path) -> Imported:
    """Turn the checkpoint in `source` into a model folder at `out`, whole or not at all; weights become float32.

    Raises SpecError for each setting of config.json that no spec can say, and FolderError for files that are missing,
    damaged, or do not fit config.json, and when there is something at `out` already.
    """
    refuse_used(out)  # before anything is read, because that may take minutes
    if not source.is_dir():
        raise FolderError(f"{source}: no such folder; a model on the Hugging Face hub is to be downloaded first")
    settings = read_object(source / _CONFIG)
    importer = _importer(settings)
    spec = _spec(importer, settings, source.resolve().name)
    stored = open_tensors(source)
    model = assemble(spec)
    tokenizer, notes = _tokenizer(source / _TOKENIZER, importer, spec)
    model.load_state_dict(convert(importer, spec, stored, model.state_dict()), assign=True)
    save_model(out, model, tokenizer)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return Imported(importer.name, spec, len(stored), n_parameters, tokenizer, tuple(notes))


def _importer(settings: dict[str, Any]) -> Importer:
    family = settings.get("model_type")
    if not isinstance(family, str):
        known = ", ".join(registry.current().of_kind("importer"))
        raise SpecError([Problem(_CONFIG, "$.model_type", f"should name a family of models  (known: {known})")])
    try:
        return registry.current().get("importer", family).Config().build()
    except LookupError as error:
        raise SpecError([Problem(_CONFIG, "$.model_type", error.args[0])]) from None


def _spec(importer: Importer, values: dict[str, Any], name: str) -> ModelSpec:
    settings = Settings(values, _CONFIG)
    described = importer.spec(settings)
    settings.close(importer.no_effect)
    try:
        return load_model_spec({"name": name, **described})
    except SpecError as error:
        source = f"{_CONFIG}, read as a gptzoo spec"
        raise SpecError(Problem(source, problem.path, problem.reason) for problem in error.problems) from None


def _tokenizer(file: Path, importer: Importer, spec: ModelSpec) -> tuple[Tokenizer | None, list[str]]:
    """The tokenizer of a checkpoint, and what there is to say about it."""
    if file.exists():
        tokenizer = _from_json(file)
        more = tokenizer.vocab_size - (spec.vocab_size or 0)
        return tokenizer, [f"{file.name} has {more} ids that the model has not"] if more > 0 else []
    none = "no tokenizer: gptzoo sample cannot read or write text with this model"
    reference = importer.tokenizer(spec)
    if reference is None:
        return None, [f"there is no {file.name}", none]
    try:
        tokenizer = Reference("tokenizer").validate(reference).build()
    except DataError as error:
        return None, [f"there is no {file.name}, and {error}", none]
    return tokenizer, [f"there is no {file.name}: taken to be {json.dumps(reference)}, as vocab_size suggests"]


def _from_json(file: Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json of Hugging Face `tokenizers`."""
    try:
        # Not the strict parser: there may be hundreds of thousands of entries, and the library checks them itself.
        state = json.loads(file.read_text(encoding="utf-8"))
        return Reference("tokenizer").validate("bpe").build(state)
    except (OSError, ValueError, DataError) as error:
        raise FolderError(f"{file}: {error}; without this file the model is imported without a tokenizer") from None

"""Readers for command-line arguments that name a spec, a model, a component, a corpus or a text."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gptzoo.cli.options import checkpoint_step

if TYPE_CHECKING:
    from gptzoo.checkpoint.model_folder import LoadedModel
    from gptzoo.component import Config
    from gptzoo.sampling.inference_weights import WeightFormat
    from gptzoo.spec.formats.origin import Origin
    from gptzoo.spec.model import ModelSpec
    from gptzoo.spec.run import RunSpec


def read_spec(path: Path, overrides: tuple[str, ...] = ()) -> ModelSpec | RunSpec:
    """Read a model or run spec from a file, by `@NAME`, or from the folder of a model, a checkpoint or a run.

    The model of a run gets the vocabulary size of the run's tokenizer, which is fitted first if necessary.
    """
    from gptzoo.errors import FolderError
    from gptzoo.shipped_specs import spec_path
    from gptzoo.spec.files import load_model_spec

    path = spec_path(path)
    if path.is_dir():
        file = next((path / name for name in ("model.json", "run.json") if (path / name).is_file()), None)
        if file is None:
            raise FolderError(f"{path}: neither a model folder (model.json) nor a run folder (run.json)")
        path = file
    return _read_run(path, overrides) if _is_run(path) else load_model_spec(path, overrides)


def read_model(
    run: Path,
    *,
    checkpoint: str = "last",
    averaged: bool = False,
    device: str = "auto",
    dtype: WeightFormat | None = None,
    one_row: bool = False,
    compile: bool = False,
) -> LoadedModel:
    """Load the model that RUN and the options of `model_options` select. Raises InputError.

    dtype: Prepare the model for generation with weights in this format. Default: keep the modules of the spec, for
    inspection.
    one_row: With dtype, optimise for a single sequence instead of a batch.
    compile: With dtype, compile the decode step.
    """
    from gptzoo.checkpoint.model_folder import find_model_folder, load
    from gptzoo.training.hardware.device import choose_device

    chosen_device = choose_device(device)
    folder = find_model_folder(run, best=checkpoint == "best", step=checkpoint_step(checkpoint))
    loaded = load(folder, device=chosen_device, averaged=averaged)
    if dtype is not None:
        from gptzoo.sampling.inference_weights import prepare_for_inference

        prepare_for_inference(loaded.model, dtype, one_row=one_row, compile=compile)
    return loaded


def read_text(file: str) -> str:
    """Read a UTF-8 file, or stdin for "-", and remove one trailing newline. Raises DataError."""
    from gptzoo.data.utf8 import decode_utf8, read_utf8

    text = decode_utf8(sys.stdin.buffer.read(), "stdin") if file == "-" else read_utf8(Path(file))
    return text.removesuffix("\n")


def check_text(text: str, option: str) -> str:
    """Return the text of an option. Raises DataError, with the option, for bytes that are not UTF-8."""
    from gptzoo.data.utf8 import encode_utf8
    from gptzoo.errors import DataError

    try:
        encode_utf8(text)
    except DataError as error:
        raise DataError(f"{option}: {error}") from None
    return text


def read_chat_template(loaded: LoadedModel, template: str | None) -> str | None:
    """Return the chat template of an option: the name of one of the model's, or the content of a file.

    Raises DataError.
    """
    from gptzoo.data.utf8 import read_utf8
    from gptzoo.errors import DataError
    from gptzoo.spec.formats.document import did_you_mean_path

    special = None if loaded.tokenizer is None else loaded.tokenizer.special_tokens
    known = {} if special is None else special.chat_templates
    if template is None or template in known:
        return template
    if not Path(template).is_file():
        names = f"  (templates of this model: {', '.join(known)})" if known else ""
        problem = "is a folder" if Path(template).is_dir() else f"no such file{did_you_mean_path(Path(template))}"
        raise DataError(f"--chat-template: {template}: {problem}{names}")
    return read_utf8(Path(template))


def _is_run(path: Path) -> bool:
    """Return True for the file of a run spec, which has a field `model`; a model spec has none."""
    from gptzoo.spec.formats.document import read_document

    if not path.is_file():
        return False
    spec, _ = read_document(path)
    return isinstance(spec, dict) and "model" in spec


def _read_run(path: Path, overrides: tuple[str, ...]) -> RunSpec:
    from gptzoo.data.prepare import prepare
    from gptzoo.spec.files import load_run_spec

    run = load_run_spec(path, overrides)
    if run.model.vocab_size is not None:
        return run
    _, store = prepare(run.corpus.build(), run.tokenizer)
    return run.model_copy(update={"model": run.model.model_copy(update={"vocab_size": store.vocab_size})})


def read_component(kind: str, text: str, source: str) -> Config:
    """Read a component from its name or its JSON; `source` names the text in errors. Raises SpecError."""
    from gptzoo.spec.formats.origin import Origin
    from gptzoo.spec.strict_json import parse_json

    value = parse_json(text, source) if text.lstrip().startswith("{") else text
    return validate_component(kind, value, Origin(source), Path.cwd())


def validate_component(kind: str, value: object, origin: Origin, folder: Path) -> Config:
    """Validate the JSON value of a component; paths are relative to `folder`. Raises SpecError."""
    from pydantic import ValidationError
    from pydantic_core import PydanticCustomError

    from gptzoo.errors import SpecError
    from gptzoo.reference import Reference
    from gptzoo.spec.files import spec_error

    try:
        config: Config = Reference(kind).validate(value, {"folder": folder})
        return config
    except ValidationError as error:
        raise spec_error(error, {(): origin}) from None
    except PydanticCustomError as error:
        raise SpecError([origin.problem((), error.message())]) from None


def read_corpus(source: str, overrides: tuple[str, ...] = ()) -> RunSpec | Config:
    """Read a run spec, or a corpus from its name, its JSON or a file of a spec. A run folder counts as its run spec.

    Raises SpecError or DataError for anything else.
    """
    from gptzoo import registry
    from gptzoo.errors import DataError, Problem, SpecError
    from gptzoo.shipped_specs import spec_path
    from gptzoo.spec.files import load_run_spec
    from gptzoo.spec.formats.document import did_you_mean_path, has_spec_suffix, read_document
    from gptzoo.strict_model import did_you_mean

    is_inline_json = source.lstrip().startswith("{")
    path = Path() if is_inline_json else spec_path(source)
    if not is_inline_json and path.is_dir():
        path = path / "run.json"
    if has_spec_suffix(path):
        if path.is_file():
            value, origin = read_document(path)
            if isinstance(value, dict) and "type" in value:
                return validate_component("corpus", value, origin, path.parent.resolve())
        return load_run_spec(path, overrides)
    if not is_inline_json and path.is_file():
        example = json.dumps({"type": "text", "path": source})
        raise SpecError([Problem(source, "$", f"expected a spec. To read this file as a corpus, write '{example}'.")])
    if not is_inline_json and source not in registry.registered("corpus"):
        known = registry.registered("corpus")
        hint = did_you_mean(source, known) or did_you_mean_path(path)
        raise DataError(f"{source}: no such file or folder, and no corpus{hint}  (corpora: {', '.join(known)})")
    return read_component("corpus", source, "corpus")


def read_text_source(source: str) -> Config | Path:
    """Read a corpus like `read_corpus`, or return the path of a folder of prepared tokens.

    A file that is no spec becomes a corpus whose training and validation splits are both the whole file.
    """
    from gptzoo import registry
    from gptzoo.errors import DataError
    from gptzoo.spec.formats.document import did_you_mean_path, has_spec_suffix
    from gptzoo.spec.formats.origin import Origin
    from gptzoo.spec.run import RunSpec

    path = Path(source)
    if source.lstrip().startswith("{"):
        return read_component("corpus", source, "--data")
    if path.is_dir() and not (path / "run.json").is_file():
        return path
    if path.is_file() and not has_spec_suffix(path):
        corpora = registry.registered("corpus").items()
        type_by_suffix = {getattr(component, "suffix", None): name for name, component in corpora}
        value = {"type": type_by_suffix.get(path.suffix, "text"), "path": source, "val_path": source}
        return validate_component("corpus", value, Origin(source), Path.cwd())
    if not path.exists() and (path.suffix or len(path.parts) > 1):
        raise DataError(f"{source}: no such file or folder{did_you_mean_path(path)}")
    run_or_corpus = read_corpus(source)
    return run_or_corpus.corpus if isinstance(run_or_corpus, RunSpec) else run_or_corpus

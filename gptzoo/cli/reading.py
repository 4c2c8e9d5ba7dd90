"""What a word on the command line describes: a spec file, or a folder that holds one; a component; text."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptzoo.cli.options import context_of

if TYPE_CHECKING:
    from gptzoo.checkpoint.model_folder import LoadedModel
    from gptzoo.component import Config
    from gptzoo.sampling.weights.prepare import Weights
    from gptzoo.spec.model import ModelSpec
    from gptzoo.spec.run import RunSpec


def read_spec(path: Path, overrides: tuple[str, ...] = ()) -> ModelSpec | RunSpec:
    """The spec in a file, or in the folder of a model, a checkpoint or a run.

    The model of a run gets the vocabulary of the run's tokenizer, which is fitted for it if need be.
    """
    from gptzoo.errors import FolderError
    from gptzoo.spec.files import load_model_spec

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
    dtype: Weights | None = None,
    one_row: bool = False,
    compile: bool = False,
) -> LoadedModel:
    """The model that RUN and the options of `model_options` name. Raises InputError.

    dtype: prepared to write, with weights of this form (`gptzoo.sampling.weights.prepare`); left out, it has the modules of its
    spec, which can be looked into.
    one_row: with dtype, prepared to write one text at a time.
    compile: with dtype, have what adds a token compiled.
    """
    from gptzoo.checkpoint.model_folder import find_model_folder, load
    from gptzoo.training.hardware.device import choose_device

    chosen = choose_device(device)
    folder = find_model_folder(run, best=checkpoint == "best", step=context_of(checkpoint))
    loaded = load(folder, device=chosen, averaged=averaged)
    if dtype is not None:
        from gptzoo.sampling.weights.prepare import prepare_for_inference

        prepare_for_inference(loaded.model, dtype, one_row=one_row, compile=compile)
    return loaded


def read_text(file: str) -> str:
    """The text of a file, or of stdin for "-", without one newline at its end. Raises DataError."""
    from gptzoo.data.utf8 import decode_utf8, read_utf8

    text = decode_utf8(sys.stdin.buffer.read(), "stdin") if file == "-" else read_utf8(Path(file))
    return text.removesuffix("\n")


def _is_run(path: Path) -> bool:
    """Whether the file describes a run: a model has no field named `model`."""
    from gptzoo.spec.files import read_json

    if not path.is_file():
        return False
    spec = read_json(path)
    return isinstance(spec, dict) and "model" in spec


def _read_run(path: Path, overrides: tuple[str, ...]) -> RunSpec:
    from gptzoo.data.token_store import prepare
    from gptzoo.spec.files import load_run_spec

    run = load_run_spec(path, overrides)
    if run.model.vocab_size is not None:
        return run
    _, store = prepare(run.corpus.build(), run.tokenizer)
    return run.model_copy(update={"model": run.model.model_copy(update={"vocab_size": store.vocab_size})})


def read_component(kind: str, text: str, source: str) -> Config:
    """A component by its name or its JSON; `source` is what errors call it. Raises SpecError."""
    from gptzoo.spec.files import parse_json

    value = parse_json(text, source) if text.lstrip().startswith("{") else text
    return validated_component(kind, value, source, Path.cwd())


def validated_component(kind: str, value: Any, source: str, folder: Path) -> Config:
    """The component that a JSON value describes, paths relative to `folder`. Raises SpecError."""
    from pydantic import ValidationError
    from pydantic_core import PydanticCustomError

    from gptzoo.errors import Problem, SpecError
    from gptzoo.reference import Reference
    from gptzoo.spec.files import spec_error

    try:
        return Reference(kind).validate(value, {"folder": folder})
    except ValidationError as error:
        raise spec_error(error, {(): source}) from None
    except PydanticCustomError as error:
        raise SpecError([Problem(source, "$", error.message())]) from None


def read_corpus(source: str, overrides: tuple[str, ...] = ()) -> RunSpec | Config:
    """What a run spec, a run folder, or the name, the JSON or the file of a corpus says that is to be read.

    Raises SpecError for what is neither a run nor a corpus.
    """
    from gptzoo import registry
    from gptzoo.component import did_you_mean
    from gptzoo.errors import DataError, Problem, SpecError
    from gptzoo.spec.files import load_run_spec, nearest_path, read_json

    inline = source.lstrip().startswith("{")
    path = Path() if inline else Path(source)
    if not inline and path.is_dir():
        path = path / "run.json"
    if path.suffix == ".json":
        found = read_json(path) if path.is_file() else {}
        if not (isinstance(found, dict) and "type" in found):
            return load_run_spec(path, overrides)
        return validated_component("corpus", found, path.name, path.parent.resolve())
    if not inline and path.is_file():
        example = json.dumps({"type": "text", "path": source})
        raise SpecError([Problem(source, "$", f"is no spec; say which corpus reads it, such as '{example}'")])
    if not inline and source not in registry.registered("corpus"):
        known = registry.registered("corpus")
        hint = did_you_mean(source, known) or nearest_path(path)
        raise DataError(f"{source}: no such file or folder, and no corpus{hint}  (corpora: {', '.join(known)})")
    return read_component("corpus", source, "corpus")


def read_text_source(source: str) -> Config | Path:
    """A corpus; or a folder of prepared tokens. A file that is no spec is a corpus whose splits are both all of it."""
    from gptzoo import registry
    from gptzoo.errors import DataError
    from gptzoo.spec.files import nearest_path
    from gptzoo.spec.run import RunSpec

    path = Path(source)
    if source.lstrip().startswith("{"):
        return read_component("corpus", source, "--data")
    if path.is_dir() and not (path / "run.json").is_file():
        return path
    if path.is_file() and path.suffix != ".json":
        readers = {getattr(c, "suffix", None): name for name, c in registry.registered("corpus").items()}
        value = {"type": readers.get(path.suffix, "text"), "path": source, "val_path": source}
        return validated_component("corpus", value, source, Path.cwd())
    if not path.exists() and (path.suffix or len(path.parts) > 1):
        raise DataError(f"{source}: no such file or folder{nearest_path(path)}")
    found = read_corpus(source)
    return found.corpus if isinstance(found, RunSpec) else found

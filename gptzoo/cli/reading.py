"""What a path on the command line describes: a spec file, or a folder that holds one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def _is_run(path: Path) -> bool:
    """Whether the file describes a run: a model has no field named `model`."""
    from gptzoo.spec.files import parse_json

    if not path.is_file():
        return False
    spec = parse_json(path.read_text(encoding="utf-8", errors="replace"), path.name)
    return isinstance(spec, dict) and "model" in spec


def _read_run(path: Path, overrides: tuple[str, ...]) -> RunSpec:
    from gptzoo.data.store import prepare
    from gptzoo.spec.files import load_run_spec

    run = load_run_spec(path, overrides)
    if run.model.vocab_size is not None:
        return run
    _, store = prepare(run.corpus.build(), run.tokenizer)
    return run.model_copy(update={"model": run.model.model_copy(update={"vocab_size": store.vocab_size})})

"""Specs from files: strict JSON in, `--set` applied, and every mistake told with its file and `$.path`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from gptzoo.component import SpecModel, reason_of
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.overrides import apply_overrides
from gptzoo.spec.provenance import unstamped
from gptzoo.spec.run import RunSpec
from gptzoo.spec.strict_json import parse_json

Spec = TypeVar("Spec", bound=SpecModel)


def load_model_spec(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> ModelSpec:
    """A model spec from a file or from a dict; `overrides` are `a.b=1` strings. Raises SpecError."""
    data, name, folder = _read(source)
    apply_overrides(ModelSpec, data, overrides)
    return _validate(ModelSpec, data, {(): name}, folder)


def load_run_spec(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> RunSpec:
    """A run spec from a file or from a dict, its model inline or by path. Raises SpecError."""
    data, name, folder = _read(source)
    overrides = list(overrides)
    sources: dict[tuple[str, ...], str] = {(): name}
    # `--set model=other.json` must come before the file is read, `--set model.d_model=64` after.
    apply_overrides(RunSpec, data, [item for item in overrides if item.partition("=")[0].strip() == "model"])
    if isinstance(model := data.get("model"), str):
        path = next((p for p in (folder / model, Path(model)) if _is_file(p)), None)
        if path is None:
            reason = f"no model spec at {model!r} (looked in {folder} and in the current folder)"
            raise SpecError([Problem(name, "$.model", reason)])
        data["model"], sources[("model",)], _ = _read(path)
    apply_overrides(RunSpec, data, [item for item in overrides if item.partition("=")[0].strip() != "model"])
    return _validate(RunSpec, data, sources, folder)


def load_spec(model: type[Spec], source: str | Path | Mapping[str, Any]) -> Spec:
    """A spec of any class that stands by itself, from a file or from a dict. Raises SpecError."""
    data, name, folder = _read(source)
    return _validate(model, data, {(): name}, folder)


def _read(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str, Path]:
    """The JSON object, the name by which errors call it, and the folder that its paths are relative to."""
    if isinstance(source, Mapping):
        return unstamped(json.loads(json.dumps(source)), "spec"), "spec", Path.cwd()
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError([Problem(str(path), "$", "is not UTF-8 text")]) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SpecError([Problem(str(path), "$", f"cannot be read: {getattr(error, 'strerror', error)}")]) from None
    data = parse_json(text, path.name)
    if not isinstance(data, dict):
        raise SpecError([Problem(path.name, "$", "a spec is a JSON object")])
    data.pop("$schema", None)
    return unstamped(data, path.name), path.name, path.parent.resolve()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False


def _validate(model: type[Spec], data: Any, sources: Mapping[tuple[str, ...], str], folder: Path) -> Spec:
    try:
        return model.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        raise spec_error(error, sources) from None


def spec_error(error: ValidationError, sources: Mapping[tuple[str, ...], str]) -> SpecError:
    """Say a pydantic error in terms of files and `$.path`; `sources` names the file of each inlined subtree."""
    problems = []
    for item in error.errors(include_url=False):
        location = item["loc"]
        prefix = max((p for p in sources if location[: len(p)] == p), key=len)
        path = "$" + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location[len(prefix) :])
        problems.append(Problem(sources[prefix], path, reason_of(item)))
    return SpecError(problems)

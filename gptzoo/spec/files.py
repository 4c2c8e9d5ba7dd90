"""Specs from files: strict JSON in, `--set` applied, and every mistake told with its file and `$.path`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from gptzoo.component import SpecModel, did_you_mean, reason_of
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.overrides import apply_overrides
from gptzoo.spec.provenance import unstamped
from gptzoo.spec.run import RunSpec
from gptzoo.spec.strict_json import parse_json

Spec = TypeVar("Spec", bound=SpecModel)


def load_model_spec(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> ModelSpec:
    """A model spec from a file or from a dict; `overrides` are `a.b=1` strings. Raises SpecError.

    Here and below, a dict may hold specs, configs of components and paths beside JSON.
    """
    data, name, folder = _read(source)
    _refuse_another("model", data, name)
    apply_overrides(ModelSpec, data, overrides)
    return _validate(ModelSpec, data, {(): name}, folder)


def load_run_spec(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> RunSpec:
    """A run spec from a file or from a dict, its model inline or by path. Raises SpecError."""
    data, sources, folder = _read_run(source, overrides)
    return _validate(RunSpec, data, sources, folder)


def load_ablation_spec(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> AblationSpec:
    """The spec of an ablation from a file or from a dict, its base inline or by path. Raises SpecError.

    `base.steps=100` in `overrides` changes the base.
    """
    data, name, folder = _read(source)
    _refuse_another("ablation", data, name)
    overrides = list(overrides)
    of_base = [item.removeprefix("base.") for item in overrides if item.startswith("base.")]
    apply_overrides(AblationSpec, data, [item for item in overrides if not item.startswith("base.")])
    sources: dict[tuple[str, ...], str] = {(): name}
    if "base" in data:
        data["base"], of_parts = _read_base(data["base"], name, folder, of_base)
        sources |= {("base", *place): part for place, part in of_parts.items()}
    return _validate(AblationSpec, data, sources, folder)


def run_json(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> dict[str, Any]:
    """A run spec as its author wrote it, its model inline and its paths absolute. Raises SpecError if not valid."""
    data, sources, folder = _read_run(source, overrides)
    return with_absolute_paths(data, _validate(RunSpec, data, sources, folder).resolved())


def model_json(source: str | Path | Mapping[str, Any], overrides: Iterable[str] = ()) -> dict[str, Any]:
    """A model spec as its author wrote it. Raises SpecError if it is not valid."""
    data, name, folder = _read(source)
    apply_overrides(ModelSpec, data, overrides)
    return with_absolute_paths(data, _validate(ModelSpec, data, {(): name}, folder).resolved())


def with_absolute_paths(written: Any, resolved: Any) -> Any:
    """JSON as it was written, but with the paths that reading it has made absolute."""
    if isinstance(written, dict) and isinstance(resolved, dict):
        return {key: with_absolute_paths(value, resolved.get(key)) for key, value in written.items()}
    if isinstance(written, list) and isinstance(resolved, list) and len(written) == len(resolved):
        return [with_absolute_paths(a, b) for a, b in zip(written, resolved, strict=True)]
    made_absolute = isinstance(written, str) and isinstance(resolved, str) and Path(resolved).is_absolute()
    return resolved if made_absolute else written


def _read_base(base: Any, name: str, folder: Path, overrides: list[str]) -> tuple[Any, dict[tuple[str, ...], str]]:
    """The JSON of an ablation's base, and the names of the files that it and its model come from."""
    if isinstance(base, str):
        base = _find(base, folder, name, "$.base", "run")
        inner, base_folder = base.name, base.parent.resolve()
    elif isinstance(base, dict):
        inner, base_folder = f"{name}: $.base", folder
    else:
        return base, {}
    data, sources, _ = _read_run(base, overrides, folder=base_folder)
    sources[()] = inner
    return with_absolute_paths(data, _validate(RunSpec, data, sources, base_folder).resolved()), sources


def _read_run(
    source: str | Path | Mapping[str, Any], overrides: Iterable[str], *, folder: Path | None = None
) -> tuple[dict[str, Any], dict[tuple[str, ...], str], Path]:
    """The JSON of a run with its model inline, the name of the file of each, and what paths are relative to."""
    data, name, found = _read(source)
    _refuse_another("run", data, name)
    folder = folder or found
    overrides = list(overrides)
    sources: dict[tuple[str, ...], str] = {(): name}
    # `--set model=other.json` must come before the file is read, `--set model.d_model=64` after.
    apply_overrides(RunSpec, data, [item for item in overrides if item.partition("=")[0].strip() == "model"])
    if isinstance(model := data.get("model"), str):
        path = _find(model, folder, name, "$.model", "model")
        data["model"], sources[("model",)], _ = _read(path)
        _refuse_another("model", data["model"], sources[("model",)])
    apply_overrides(RunSpec, data, [item for item in overrides if item.partition("=")[0].strip() != "model"])
    return data, sources, folder


def _find(path: str, folder: Path, name: str, place: str, what: str) -> Path:
    """The file at a path that a spec gives, relative to the spec's folder or to the current one."""
    found = next((p for p in (folder / path, Path(path)) if _is_file(p)), None)
    if found is None:
        reason = f"no {what} spec at {path!r} (looked in {folder} and in the current folder)"
        raise SpecError([Problem(name, place, reason)])
    return found


def load_spec(model: type[Spec], source: str | Path | Mapping[str, Any]) -> Spec:
    """A spec of any class that stands by itself, from a file or from a dict. Raises SpecError."""
    data, name, folder = _read(source)
    return _validate(model, data, {(): name}, folder)


def _read(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str, Path]:
    """The JSON object, the name by which errors call it, and the folder that its paths are relative to."""
    if isinstance(source, Mapping):
        data = json.loads(json.dumps(source, default=_as_json))
        data.pop("$schema", None)
        return unstamped(data, "spec"), "spec", Path.cwd()
    path = Path(source)
    data = read_json(path)
    if not isinstance(data, dict):
        raise SpecError([Problem(path.name, "$", "a spec is a JSON object")])
    data.pop("$schema", None)
    return unstamped(data, path.name), path.name, path.parent.resolve()


def _as_json(value: Any) -> Any:
    """What a dict of Python may hold beside JSON. Raises SpecError for all else."""
    if isinstance(value, SpecModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    reason = f"a {type(value).__name__} has no place in a spec, which is JSON: {value!r}"
    raise SpecError([Problem("spec", "$", reason)])


def read_json(path: Path) -> Any:
    """The strict JSON in a file. Raises SpecError."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError([Problem(str(path), "$", "is not UTF-8 text")]) from None
    except IsADirectoryError:
        inside = next((path / name for name in ("run.json", "ablation.json") if (path / name).is_file()), None)
        there = f", such as {inside}" if inside else ""
        raise SpecError([Problem(str(path), "$", f"is a folder; give the file of a spec{there}")]) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = f"cannot be read: {getattr(error, 'strerror', error)}{nearest_path(path)}"
        raise SpecError([Problem(str(path), "$", reason)]) from None
    return parse_json(text, path.name)


def nearest_path(path: Path) -> str:
    """`"; did you mean 'runs/quickstart'?"` for a path that there is not, or nothing when nothing beside it is near."""
    try:
        beside = [str(path.with_name(entry.name)) for entry in path.parent.iterdir()]
    except (OSError, ValueError):  # ValueError: a path without a name
        return ""
    return did_you_mean(str(path), beside)


_TOLD_BY = {"model": {"d_model", "n_layers"}, "run": {"model"}, "ablation": {"base", "axes"}}
_ARTICLES = {"model": "a model", "run": "a run", "ablation": "an ablation"}
_NAMES = {
    "model": 'a model has fields such as "d_model" and "n_layers"',
    "run": 'a run names its model: {"model": "model.json", "steps": 1000, ...}',
    "ablation": 'an ablation names a run: {"base": "run.json", "axes": {...}}',
}


def _refuse_another(wanted: str, data: Mapping[str, Any], name: str) -> None:
    """Raise SpecError, one instead of one for each field, where a spec is plainly one of another kind."""
    if _TOLD_BY[wanted] & data.keys():
        return
    for kind, fields in _TOLD_BY.items():
        if fields & data.keys():
            reason = f"describes {_ARTICLES[kind]}, and {_ARTICLES[wanted]} is wanted here; {_NAMES[wanted]}"
            raise SpecError([Problem(name, "$", reason)])


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

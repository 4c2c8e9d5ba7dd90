"""Loading of specs: files or dicts, `--set` overrides, and errors that name the file, the line and the `$.path`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from gptzoo.errors import Problem, SpecError
from gptzoo.shipped_specs import spec_path
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.formats.document import read_document
from gptzoo.spec.formats.origin import Origin, Origins, mark_overridden, problem_at
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.overrides import apply_overrides, override_path
from gptzoo.spec.provenance import strip_provenance
from gptzoo.spec.run import RunSpec
from gptzoo.spec.strict_json import TOO_DEEP, Json, Location
from gptzoo.strict_model import (
    LONE_SURROGATE,
    StrictModel,
    lone_surrogate_path,
    reason_of,
)
from gptzoo.utils.json_diff import differences

Spec = TypeVar("Spec", bound=StrictModel)
Source = str | Path | Mapping[str, Any]  # the path of a spec file, the name of a shipped one (@NAME), or a dict


def load_model_spec(source: Source, overrides: Iterable[str] = ()) -> ModelSpec:
    """Load a model spec from a file or a dict. `overrides` are strings such as `attention.window=64`.

    A dict may contain specs, configs of components and paths in addition to JSON values. Raises SpecError.
    """
    data, origin, folder = _read(source)
    _check_kind("model", data, origin)
    origins: Origins = {(): origin}
    _override(ModelSpec, data, overrides, origins)
    return _validate(ModelSpec, data, origins, folder)


def load_run_spec(source: Source, overrides: Iterable[str] = ()) -> RunSpec:
    """Load a run spec from a file or a dict; its model may be inline or a path. Raises SpecError."""
    data, origins, folder = _read_run(source, overrides)
    return _validate(RunSpec, data, origins, folder)


def load_ablation_spec(source: Source, overrides: Iterable[str] = ()) -> AblationSpec:
    """Load an ablation spec from a file or a dict; its base may be inline or a path. Raises SpecError.

    An override such as `base.steps=100` changes the base.
    """
    return load_with_base(AblationSpec, "ablation", source, overrides)


def load_with_base(model: type[Spec], kind: str, source: Source, overrides: Iterable[str]) -> Spec:
    """Load a spec whose base is a run spec, inline or a path, from a file or a dict. Raises SpecError.

    An override such as `base.steps=100` changes the base. `kind` is the kind of the spec in error messages.
    """
    data, origin, folder = _read(source)
    _check_kind(kind, data, origin)
    overrides = list(overrides)
    base_overrides = [item.removeprefix("base.") for item in overrides if item.startswith("base.")]
    origins: Origins = {(): origin}
    _override(model, data, [item for item in overrides if not item.startswith("base.")], origins)
    if "base" in data:
        data["base"], base_origins = _read_base(data["base"], origin, folder, base_overrides)
        origins |= {("base", *location): of_part for location, of_part in base_origins.items()}
    return _validate(model, data, origins, folder)


def run_json(source: Source, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return a run spec as its author wrote it, with an inline model and absolute paths. Raises SpecError."""
    data, origins, folder = _read_run(source, overrides)
    return _with_absolute_paths(data, _validate(RunSpec, data, origins, folder))


def model_json(source: Source, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return a model spec as its author wrote it, with absolute paths. Raises SpecError."""
    data, origin, folder = _read(source)
    origins: Origins = {(): origin}
    _override(ModelSpec, data, overrides, origins)
    return _with_absolute_paths(data, _validate(ModelSpec, data, origins, folder))


def check_reads_back(spec: RunSpec) -> None:
    """Raise SpecError unless the JSON of a run gives the same run again: a run that was saved must be resumable."""
    written = spec.resolved()
    advice = "it could be trained, but not resumed, sampled or evaluated. Change the type of the option"
    try:
        read = _validate(RunSpec, json.loads(json.dumps(written)), {(): Origin(spec.name)}, Path.cwd()).resolved()
    except SpecError as error:
        problems = [
            Problem(p.source, p.path, f"cannot be read back from JSON ({p.reason}): {advice}") for p in error.problems
        ]
        raise SpecError(problems) from None
    except TypeError as error:
        raise SpecError([Problem(spec.name, "$", f"cannot be written as JSON ({error}): {advice}")]) from None
    if changes := list(differences(written, read, "$")):
        change = changes[0]
        reason = f"is {json.dumps(change.a)}, and {json.dumps(change.b)} when it is read back from JSON: {advice}"
        raise SpecError([Problem(spec.name, change.name, reason)])


def load_spec(model: type[Spec], source: Source) -> Spec:
    """Load a spec of any self-contained class from a file or a dict. Raises SpecError."""
    data, origin, folder = _read(source)
    return _validate(model, data, {(): origin}, folder)


def spec_error(error: ValidationError, origins: Mapping[Location, Origin]) -> SpecError:
    """Convert a pydantic error. `origins` has the origin of each inlined file, by location."""
    return SpecError(problem_at(origins, item["loc"], reason_of(item)) for item in error.errors(include_url=False))


def _with_absolute_paths(written: dict[str, Any], spec: ModelSpec | RunSpec) -> dict[str, Any]:
    """Return JSON as it was written, except for the paths that validation has made absolute."""

    def merge(written: Json, resolved: Json) -> Json:
        if isinstance(written, dict) and isinstance(resolved, dict):
            return {key: merge(value, resolved.get(key)) for key, value in written.items()}
        if isinstance(written, list) and isinstance(resolved, list) and len(written) == len(resolved):
            return [merge(a, b) for a, b in zip(written, resolved, strict=True)]
        is_path = isinstance(written, str) and isinstance(resolved, str) and Path(resolved).is_absolute()
        return resolved if is_path else written

    merged: dict[str, Any] = merge(written, spec.resolved())
    return merged


def _read_base(base: Json, origin: Origin, folder: Path, overrides: list[str]) -> tuple[Json, Origins]:
    """Return the JSON of an ablation's base, with the origins of its file and its model's file."""
    if isinstance(base, str):
        base = _find_spec("run", base, folder, origin, "base")
        data, origins, folder = _read_run(base, overrides)
    elif isinstance(base, dict):
        data, origins, _ = _read_run(base, overrides, folder=folder, origin=origin.below(("base",)))
    else:
        return base, {}
    return _with_absolute_paths(data, _validate(RunSpec, data, origins, folder)), origins


def _read_run(
    source: Source, overrides: Iterable[str], *, folder: Path | None = None, origin: Origin | None = None
) -> tuple[dict[str, Any], Origins, Path]:
    """Return the JSON of a run with an inline model, the origins of its parts, and the folder of relative paths."""
    data, spec_origin, spec_folder = _read(source)
    folder, origin = folder or spec_folder, origin or spec_origin
    _check_kind("run", data, origin)
    overrides = list(overrides)
    origins: Origins = {(): origin}
    # `--set model=other.json` must come before the model file is read, `--set model.d_model=64` after.
    _override(RunSpec, data, [item for item in overrides if override_path(item) == ("model",)], origins)
    if isinstance(model := data.get("model"), str):
        path = _find_spec("model", model, folder, origin, "model")
        data["model"], origins[("model",)], model_folder = _read(path)
        _check_kind("model", data["model"], origins[("model",)])
        data["model"] = _with_paths_beside(data["model"], model_folder)
    _override(RunSpec, data, [item for item in overrides if override_path(item) != ("model",)], origins)
    return data, origins, folder


def _with_paths_beside(model: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the JSON of a model with absolute paths, which are relative to `folder`. An invalid one is unchanged."""
    with contextlib.suppress(SpecError):  # reported with all other errors of the run
        return _with_absolute_paths(model, _validate(ModelSpec, model, {(): Origin("model")}, folder))
    return model


def _override(model: type[StrictModel], data: dict[str, Any], overrides: Iterable[str], origins: Origins) -> None:
    """Apply overrides in place. Errors name no line for overridden values and for lists with an overridden item."""
    overrides = list(overrides)
    apply_overrides(model, data, overrides)
    for path in map(override_path, overrides):
        index = next((n for n, part in enumerate(path) if part.isdigit()), len(path))
        mark_overridden(origins, path[:index])


def _find_spec(kind: str, path: str, folder: Path, origin: Origin, field: str) -> Path:
    """Return the file at a path in a spec, which is relative to the spec's folder or to the current one."""
    try:
        existing = next((p for p in (folder / path, Path(path)) if _is_file(p)), None) or spec_path(path)
    except SpecError as error:
        raise SpecError(origin.problem((field,), problem.reason) for problem in error.problems) from None
    if not _is_file(existing):
        reason = f"no {kind} spec at {path!r} (looked in {folder} and in the current folder)"
        raise SpecError([origin.problem((field,), reason)])
    return existing


def _read(source: Source) -> tuple[dict[str, Any], Origin, Path]:
    """Return a JSON object, its origin for error messages, and the folder that its paths are relative to."""
    if isinstance(source, Mapping):
        data = json.loads(json.dumps(_with_json_keys(source), default=_to_json))
        data.pop("$schema", None)
        return strip_provenance(data, "spec"), Origin("spec"), Path.cwd()
    path = spec_path(source)
    data, origin = read_document(path)
    if not isinstance(data, dict):
        raise SpecError([Problem(path.name, "$", "should be an object, with the fields of a spec")])
    data.pop("$schema", None)
    return strip_provenance(data, path.name), origin, path.parent.resolve()


def _to_json(value: object) -> Json:
    """Convert a value that a dict may contain in addition to JSON. Raises SpecError for a type without a JSON form."""
    if isinstance(value, StrictModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return _with_json_keys(value)
    if isinstance(value, Path):
        return str(value)
    if not (isinstance(value, complex) or callable(value)):
        with contextlib.suppress(ValueError, TypeError):
            converted: Json = to_jsonable_python(value)
            return converted
    reason = f"a spec is JSON and cannot contain a {type(value).__name__}: {value!r}"
    raise SpecError([Problem("spec", "$", reason)])


def _with_json_keys(value: object) -> object:
    """Convert the keys of all plain dicts in a value, also in lists and tuples."""
    if isinstance(value, Mapping):
        return {_to_key(key): _with_json_keys(item) for key, item in value.items()}
    return [_with_json_keys(item) for item in value] if isinstance(value, list | tuple) else value


def _to_key(key: object) -> Json:
    """Return a key of an object as JSON writes it: `json.dumps` converts numbers, but no dates or enumerations."""
    return key if isinstance(key, str | int | float | bool | None) else next(iter(to_jsonable_python({key: None})))


_TYPICAL_FIELDS = {
    "model": {"d_model", "n_layers"},
    "run": {"model"},
    "ladder": {"sizes", "variants", "rule"},
    "ablation": {"base", "axes"},
}
_WITH_ARTICLE = {"model": "a model", "run": "a run", "ladder": "a scaling ladder", "ablation": "an ablation"}
_EXAMPLES = {
    "model": 'A model spec has fields such as "d_model" and "n_layers".',
    "run": 'A run spec names its model: {"model": "model.json", "steps": 1000, ...}.',
    "ladder": 'The spec of a ladder names a run, variants and sizes: {"base": "run.json", "variants": {...}, ...}.',
    "ablation": 'An ablation spec names a run: {"base": "run.json", "axes": {...}}.',
}


def _check_kind(expected: str, data: Mapping[str, Any], origin: Origin) -> None:
    """Raise one SpecError, instead of one per field, for a spec of an obviously different kind."""
    if _TYPICAL_FIELDS[expected] & data.keys():
        return
    for kind, fields in _TYPICAL_FIELDS.items():
        if fields & data.keys():
            reason = f"expected the spec of {_WITH_ARTICLE[expected]}, got that of {_WITH_ARTICLE[kind]}."
            raise SpecError([origin.problem((), f"{reason} {_EXAMPLES[expected]}")])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # for example, a name that is too long
        return False


def _validate(model: type[Spec], data: object, origins: Mapping[Location, Origin], folder: Path) -> Spec:
    try:
        location = lone_surrogate_path(data)
    except RecursionError:
        raise SpecError([problem_at(origins, (), TOO_DEEP)]) from None
    if location is not None:  # it could not be saved
        raise SpecError([problem_at(origins, location, LONE_SURROGATE)])
    try:
        return model.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        raise spec_error(error, origins) from None

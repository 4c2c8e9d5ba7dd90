"""A hint for an unknown field of a run or a model: where the field is, and the line to write.

Fields are found by their exact name anywhere in the spec, by the words of other projects, and by similar names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gptzoo import registry
from gptzoo.component import Config
from gptzoo.component_hints import corpus_of_path, is_path
from gptzoo.field_words import FIELD_WORDS, OTHER_MEANINGS, RUN_FIELDS
from gptzoo.reference import Reference
from gptzoo.strict_model import did_you_mean

_MAX_VALUE_LENGTH = 60  # characters of a value that is repeated in a hint
_MAX_DEPTH = 4


def hint_for_field(key: str, spec: type[BaseModel], data: Mapping[str, Any], *, prefix: str = "") -> str:
    """Return a hint for an unknown key of `data`, such as `; write "optimizer": {"type": "adamw", "lr": 0.1}`, or "".

    spec: the class of the spec that has no such field.
    prefix: the place of the spec in a run, such as "model.".
    """
    word = key.lower()
    place = FIELD_WORDS.get(word) or (RUN_FIELDS.get(word) if prefix else None)
    if place is not None and not place.startswith(prefix):
        return f"; it belongs to the run, outside of its model, as {place!r}"
    if place is not None:
        return f"; {_line(place.removeprefix(prefix).split('.'), spec, data, key)}"
    paths = list(_paths(spec))
    if same := next((path for path in paths if path[-1] == word), None):
        return f"; {_line(same, spec, data, key)}"
    if similar := did_you_mean(key, spec.model_fields):
        return similar
    by_name = {path[-1]: ".".join(path) for path in reversed(paths)}
    elsewhere = did_you_mean(key, by_name)
    return next((f"; did you mean {path!r}?" for name, path in by_name.items() if f"{name!r}" in elsewhere), "")


class _Step(NamedTuple):
    """One field of a path, and the component that it must hold, if it holds a component."""

    field: str
    component: str | None


def _line(path: Sequence[str], spec: type[BaseModel], data: Mapping[str, Any], key: str) -> str:
    """Return the line of JSON that sets the field at `path` to the value of `key`, and the override that does."""
    given, meaning = data[key], OTHER_MEANINGS.get(key.lower())
    if path[-1] == "corpus" and isinstance(given, str) and is_path(given):
        given = corpus_of_path(given)
    value = json.dumps(given, ensure_ascii=False, default=str)
    if meaning is not None or len(value) > _MAX_VALUE_LENGTH:
        value = "…"
    *outer, last = _steps(path, spec, data)
    text = f"{json.dumps(last.field)}: {value}"
    for field, component in reversed(outer):
        type_ = f'"type": {json.dumps(component)}, ' if component else ""
        text = f"{json.dumps(field)}: {{{type_}{text}}}"
    override = f" (--set {'.'.join(path)}={value})" if len(path) > 1 and value != "…" else ""
    return f"write {text}{override}" + (f" with {meaning}" if meaning else "")


def _steps(path: Sequence[str], spec: type[BaseModel], data: object) -> Iterator[_Step]:
    """Yield the fields on a path, each with the component that has the next one."""
    model: type[BaseModel] | None = spec
    for index, part in enumerate(path):
        field = None if model is None else model.model_fields.get(part)
        data = data.get(part) if isinstance(data, Mapping) else None
        following = path[index + 1] if index + 1 < len(path) else ""
        candidates = [] if field is None else list(_models_below(field, data))
        model = next((each for each in candidates if following in each.model_fields), None)
        yield _Step(part, model.component.name if model is not None and issubclass(model, Config) else None)


def _paths(model: type[BaseModel], depth: int = _MAX_DEPTH) -> Iterator[tuple[str, ...]]:
    """Yield the paths of all fields of a spec and below, the shallow ones first."""
    below: dict[tuple[str, type[BaseModel]], None] = {}
    for name, field in model.model_fields.items():
        if name != "type":
            yield (name,)
            below |= dict.fromkeys((name, inner) for inner in _models_below(field))
    if depth > 1:
        deeper = [((name, *path)) for name, inner in below for path in _paths(inner, depth - 1)]
        yield from sorted(dict.fromkeys(deeper), key=len)


def _models_below(field: FieldInfo, value: object = None) -> Iterator[type[BaseModel]]:
    """Yield the classes of objects that a field may hold. The class of its value or default comes first."""
    reference = next((item for item in field.metadata if isinstance(item, Reference)), None)
    if reference is not None:
        known = registry.current().of_kind(reference.kind)
        named = value.get("type") if isinstance(value, Mapping) else value
        first = [name for name in (named, field.default) if isinstance(name, str) and name in known]
        yield from (known[name].Config for name in dict.fromkeys([*first, *known]))
        return
    for annotation in (field.annotation, *get_args(field.annotation)):
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation

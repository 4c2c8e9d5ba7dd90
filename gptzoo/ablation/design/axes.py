"""Axes: the spec fields that an ablation varies, and the choices on each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from gptzoo import registry
from gptzoo.component import Config
from gptzoo.errors import Problem, SpecError
from gptzoo.field_words import FIELD_WORDS
from gptzoo.spec.ablation_axes import AxisSpec
from gptzoo.spec.overrides import set_field
from gptzoo.spec.schema import referenced_kind
from gptzoo.spec.strict_json import Json
from gptzoo.strict_model import did_you_mean


@dataclass(frozen=True)
class Choice:
    """One value of an axis."""

    label: str  # in tables
    slug: str  # in the names of variants
    fields: Mapping[str, Any]  # the spec fields that it sets, by path


@dataclass(frozen=True)
class Axis:
    """An axis with its choices."""

    name: str
    choices: Sequence[Choice]
    when: Mapping[str, frozenset[str]]  # labels of other axes, one of which each must have for this axis to exist
    recommended: bool = True  # take along the settings that the chosen components recommend


def read_axes(axes: Mapping[str, AxisSpec], model: type[BaseModel], base: dict[str, Any]) -> list[Axis]:
    """Expand the axes of an ablation into choices. `base` is JSON for the spec class `model`. Raises SpecError."""
    problems: list[Problem] = []
    expanded = []
    for name, spec in axes.items():
        try:
            choices = _choices(name, spec, model, base)
        except ValueError as error:
            problems.append(Problem("axes", f"$.{name}", str(error)))
            continue
        when = {other: condition_labels(wanted) for other, wanted in spec.when.items()}
        expanded.append(Axis(name, choices, when, recommended=spec.recommended is not False))
    known = {axis.name: {choice.label for choice in axis.choices} for axis in expanded}
    for axis in expanded if not problems else ():
        problems += condition_problems(axis.when, known, f"$.{axis.name}.when")
    if problems:
        raise SpecError(problems)
    return expanded


def condition_problems(
    when: Mapping[str, Iterable[str]], known: Mapping[str, Iterable[str]], path: str
) -> list[Problem]:
    """Return a problem for each axis and label in a condition that does not exist. `known` has each axis's labels."""
    problems = []
    for axis, wanted in when.items():
        if axis not in known:
            problems.append(Problem("axes", path, f"there is no axis {axis!r}{did_you_mean(axis, known)}"))
            continue
        for label in sorted({*wanted} - {*known[axis]}):
            reason = f"axis {axis!r} has no choice {label!r}  (known: {', '.join(known[axis])})"
            problems.append(Problem("axes", path, reason))
    return problems


def condition_labels(wanted: object) -> frozenset[str]:
    """Return the labels that a condition accepts on one axis: a single one, or a list of them."""
    return frozenset(map(label_of, wanted if isinstance(wanted, list | tuple) else (wanted,)))


def apply_choices(model: type[BaseModel], base: dict[str, Any], choices: Iterable[Choice]) -> dict[str, Any]:
    """Return a copy of the base with the fields that the choices set. Outer fields are set before fields in them."""
    data = {key: _copy_json(value) for key, value in base.items()}
    fields = [(path.split("."), value) for choice in choices for path, value in choice.fields.items()]
    for path, value in sorted(fields, key=lambda field: len(field[0])):
        set_field(model, data, path, _copy_json(value))
    return data


def _copy_json(value: Json) -> Json:
    """Copy JSON. `copy.deepcopy`, which is for any object, takes several times as long."""
    if isinstance(value, dict):
        return {key: _copy_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy_json(item) for item in value)
    return value


def label_of(value: object) -> str:
    """Return the label of a value in tables: a component by its type and options, a list by its items."""
    match value:
        case str():
            return value
        case {"type": str(name), **options}:
            listed = ", ".join(f"{option}={label_of(of)}" for option, of in options.items())
            return f"{name}({listed})" if listed else name
        case list() | tuple():
            return "+".join(map(label_of, value))
    return json.dumps(value)


def slug_of(label: str) -> str:
    """Turn a label into a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9_.+=]+", "-", label).strip("-.") or "x"


def _similar_field(name: str, model: type[BaseModel]) -> str:
    """Return a suggestion such as `"; did you mean 'optimizer.lr'?"`, also for the word of another project, or ""."""
    place = FIELD_WORDS.get(name.lower(), "")
    path = place if "model" in model.model_fields else place.removeprefix("model.")  # of a run, or of a model
    if path.split(".")[0] in model.model_fields:
        return f"; did you mean {path!r}?"
    return did_you_mean(name, sorted(model.model_fields))


def _choices(name: str, spec: AxisSpec, model: type[BaseModel], base: dict[str, Any]) -> list[Choice]:
    root = name.split(".")[0]
    is_field = root in model.model_fields
    if is_field:
        kind = _kind_at(name.split("."), model, base)
    elif "." in name or not isinstance(spec.choices, dict):
        raise ValueError(
            f"no field named {root!r}{_similar_field(root, model)}; an axis that sets several "
            'fields has labelled choices: {"swiglu": {"model.ffn": "glu", "model.activation": "silu"}}'
        )
    if spec.choices == "*":
        if kind is None:
            raise ValueError('"*" is for a field that names a component')
        return _labelled(name, {type_: _as_in_base(type_, name, base) for type_ in registry.current().of_kind(kind)})
    if not isinstance(spec.choices, dict):
        return _unlabelled(name, spec.choices or ())
    if is_field:
        return _labelled(name, spec.choices)
    return [_several_fields(label, fields, model, base) for label, fields in spec.choices.items()]


def _labelled(name: str, values: Mapping[str, Any]) -> list[Choice]:
    return [Choice(label, slug_of(label), {name: value}) for label, value in values.items()]


def _unlabelled(name: str, values: Sequence[Any]) -> list[Choice]:
    last = name.split(".")[-1]
    by_label = {}
    for value in values:
        label = label_of(value)
        if label in by_label:
            raise ValueError(f"two choices have the label {label!r}; give labels: {{label: value}}")
        # A number alone would not say which field it is the value of.
        speaks_for_itself = isinstance(value, str | dict | list | tuple)
        by_label[label] = Choice(label, slug_of(label if speaks_for_itself else f"{last}={label}"), {name: value})
    return list(by_label.values())


def _several_fields(label: str, fields: object, model: type[BaseModel], base: dict[str, Any]) -> Choice:
    if not isinstance(fields, dict):
        raise ValueError(f'{label!r} should be an object of fields: {{"model.ffn": "glu", …}}')
    for path in fields:
        _kind_at(path.split("."), model, base)
    return Choice(label, slug_of(label), fields)


def _kind_at(path: Sequence[str], model: type[BaseModel] | None, base: object) -> str | None:
    """Return the kind of component that a field names, or None. Raises ValueError for a field that cannot exist.

    The options of a component depend on its type, so they are known only for the components of the base.
    """
    for depth, part in enumerate(path):
        if model is None:
            return None
        field = model.model_fields.get(part)
        if field is None:
            if issubclass(model, Config):  # the component of the base has no such option, but that of a variant may
                return None
            raise ValueError(f"no field named {part!r}{did_you_mean(part, model.model_fields)}")
        kind = referenced_kind(field)
        if depth == len(path) - 1:
            return kind
        base = base.get(part, field.default) if isinstance(base, dict) else None
        if kind is not None:
            name = base.get("type") if isinstance(base, dict) else base
            component = registry.current().of_kind(kind).get(name) if isinstance(name, str) else None
            model = component.Config if component else None
        else:
            annotation = field.annotation
            model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return None


def _as_in_base(type_: str, name: str, base: object) -> object:
    """Return the base's component if it has this type, with its options; otherwise the type alone."""
    for part in name.split("."):
        base = base.get(part) if isinstance(base, dict) else None
    return base if isinstance(base, dict) and base.get("type") == type_ else type_

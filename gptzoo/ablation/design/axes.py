"""Axes: the fields that an ablation varies, the choices on each, and how a choice is called and made."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from gptzoo import registry
from gptzoo.component import Config, did_you_mean
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import AxisSpec
from gptzoo.spec.overrides import set_field
from gptzoo.spec.schema import kind_of


@dataclass(frozen=True)
class Choice:
    """One value of an axis: its label in tables, its part in the names of variants, and the fields that it sets."""

    label: str
    slug: str
    fields: Mapping[str, Any]  # value by path


@dataclass(frozen=True)
class Axis:
    """What one axis chooses from. `when` has labels of other axes without which it is not there."""

    name: str
    choices: Sequence[Choice]
    when: Mapping[str, frozenset[str]]


def read_axes(axes: Mapping[str, AxisSpec], model: type[BaseModel], base: dict[str, Any]) -> list[Axis]:
    """The axes of an ablation whose base is JSON that `model` describes. Raises SpecError."""
    problems: list[Problem] = []
    found = []
    for name, spec in axes.items():
        try:
            choices = _choices(name, spec, model, base)
        except ValueError as error:
            problems.append(Problem("axes", f"$.{name}", str(error)))
            continue
        found.append(Axis(name, choices, {other: labels(wanted) for other, wanted in spec.when.items()}))
    known = {axis.name: {choice.label for choice in axis.choices} for axis in found}
    for axis in found if not problems else ():
        problems += condition_problems(axis.when, known, f"$.{axis.name}.when")
    if problems:
        raise SpecError(problems)
    return found


def condition_problems(
    when: Mapping[str, Iterable[str]], known: Mapping[str, Iterable[str]], place: str
) -> list[Problem]:
    """What a condition names that there is not; `check_ids` are the labels of each axis."""
    problems = []
    for axis, wanted in when.items():
        if axis not in known:
            problems.append(Problem("axes", place, f"there is no axis {axis!r}{did_you_mean(axis, known)}"))
            continue
        for label in sorted({*wanted} - {*known[axis]}):
            reason = f"axis {axis!r} has no choice {label!r}  (known: {', '.join(known[axis])})"
            problems.append(Problem("axes", place, reason))
    return problems


def labels(wanted: Any) -> frozenset[str]:
    """The labels that a condition names: one, or a list of them."""
    return frozenset(map(label_of, wanted)) if isinstance(wanted, list | tuple) else frozenset({label_of(wanted)})


def apply(model: type[BaseModel], base: dict[str, Any], choices: Iterable[Choice]) -> dict[str, Any]:
    """The base with what the choices set; a field before those within it."""
    data = copy.deepcopy(base)
    fields = [(path.split("."), value) for choice in choices for path, value in choice.fields.items()]
    for path, value in sorted(fields, key=lambda field: len(field[0])):
        set_field(model, data, path, copy.deepcopy(value))
    return data


def label_of(value: Any) -> str:
    """What a value is called in tables: a component by its type and options, a list by its items."""
    match value:
        case str():
            return value
        case {"type": str(name), **options}:
            told = ", ".join(f"{option}={label_of(of)}" for option, of in options.items())
            return f"{name}({told})" if told else name
        case list() | tuple():
            return "+".join(map(label_of, value))
    return json.dumps(value)


def _choices(name: str, spec: AxisSpec, model: type[BaseModel], base: dict[str, Any]) -> list[Choice]:
    own = name.split(".")[0] in model.model_fields
    if own:
        kind = _kind_at(name.split("."), model, base)
    elif "." in name or not isinstance(spec.choices, dict):
        known = sorted(model.model_fields)
        raise ValueError(
            f"no field named {name.split('.')[0]!r}{did_you_mean(name.split('.')[0], known)}; the choices of an axis of "
            "several fields are objects of them, by label"
        )
    if spec.choices == "*":
        if kind is None:
            raise ValueError('"*" is for a field that names a component')
        return _named(name, {type_: _as_in_base(type_, name, base) for type_ in registry.current().of_kind(kind)})
    if not isinstance(spec.choices, dict):
        return _unnamed(name, spec.choices or ())
    if own:
        return _named(name, spec.choices)
    return [_bundle(label, fields, model, base) for label, fields in spec.choices.items()]


def _named(name: str, values: Mapping[str, Any]) -> list[Choice]:
    return [Choice(label, slug_of(label), {name: value}) for label, value in values.items()]


def _unnamed(name: str, values: Sequence[Any]) -> list[Choice]:
    last = name.split(".")[-1]
    found = {}
    for value in values:
        label = label_of(value)
        if label in found:
            raise ValueError(f"the choice {label!r} is there twice; give labels: {{label: value}}")
        plain = isinstance(value, str | dict | list | tuple)  # a bare number would not say of what
        found[label] = Choice(label, slug_of(label if plain else f"{last}={label}"), {name: value})
    return list(found.values())


def _bundle(label: str, fields: Any, model: type[BaseModel], base: dict[str, Any]) -> Choice:
    if not isinstance(fields, dict):
        raise ValueError(f'{label!r} should be an object of fields: {{"model.ffn": "glu", …}}')
    for path in fields:
        _kind_at(path.split("."), model, base)
    return Choice(label, slug_of(label), fields)


def _kind_at(path: Sequence[str], model: type[BaseModel] | None, base: Any) -> str | None:
    """The kind of component that a field names, if any; raises ValueError for a field that cannot be.

    The options of a part depend on which it is, so they are known only where the base's own part has them.
    """
    for depth, part in enumerate(path):
        if model is None:
            return None
        field = model.model_fields.get(part)
        if field is None:
            if issubclass(model, Config):  # of the base's part; another may have it
                return None
            raise ValueError(f"no field named {part!r}{did_you_mean(part, model.model_fields)}")
        kind = kind_of(field)
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


def _as_in_base(type_: str, name: str, base: Any) -> Any:
    """A component by name, or with the options that the base gives it."""
    for part in name.split("."):
        base = base.get(part) if isinstance(base, dict) else None
    return base if isinstance(base, dict) and base.get("type") == type_ else type_


def slug_of(label: str) -> str:
    """A label as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9_.+=]+", "-", label).strip("-.") or "x"

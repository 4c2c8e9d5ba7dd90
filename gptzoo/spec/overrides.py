"""Overrides such as `--set a.b=value`, applied to the JSON of a spec before it is validated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import BaseModel

from gptzoo import registry
from gptzoo.component import Config
from gptzoo.errors import Problem, SpecError
from gptzoo.reference import Reference
from gptzoo.spec.strict_json import Json, parse_json

Model = type[BaseModel] | None  # the class that describes a JSON object, if it is known

_SHORT_FORMS = {"init_from": "path"}
"""The option that a string stands for, by field. In other fields it is the type of a component."""


def apply_overrides(model: Model, data: dict[str, Any], overrides: Iterable[str]) -> None:
    """Apply overrides in place to JSON that `model` describes. Each value is JSON, or else a string.

    A component that is only named, or left at its default, becomes an object when one of its options is set. Raises
    SpecError.
    """
    for override in overrides:
        _, equals, text = override.partition("=")
        path = list(override_path(override))
        if not equals or not all(path):
            raise SpecError([Problem("--set", override, "expected path.to.option=value")])
        try:
            value = parse_json(text, "--set")
        except SpecError:
            value = text
        set_field(model, data, path, value)


def override_path(override: str) -> tuple[str, ...]:
    """Return the path of the field that an override sets, such as ("attention", "window")."""
    return tuple(override.partition("=")[0].strip().split("."))


def set_field(model: Model, data: dict[str, Any], path: list[str], value: Json) -> None:
    """Set one field, in place, of JSON that `model` describes. See `apply_overrides`."""
    node: Json = data
    reference: Reference | None = None  # the kind of component that the items of a list refer to
    for depth, part in enumerate(path):
        location = "$" + "".join(f".{p}" for p in path[:depth])
        if isinstance(node, list):
            if not re.fullmatch(r"\d+", part) or int(part) >= len(node):
                reason = f"expected an index below {len(node)}, the length of the list, got {part!r}"
                raise SpecError([Problem("--set", location, reason)])
            key: str | int = int(part)
            child = node[int(part)]
        elif isinstance(node, dict):
            key, child = part, node.get(part)
            reference = _reference(model, part)
            if child is None and reference is not None and model is not None:
                field = model.model_fields[part]
                child = None if field.is_required() else field.default  # the name of a component, or None
        else:
            raise SpecError([Problem("--set", location, f"has no options; its value is {json.dumps(node)}")])
        if depth == len(path) - 1:
            node[key] = value
            return
        if isinstance(child, str):
            child = {_SHORT_FORMS.get(part, "type"): child}
        node[key] = {} if child is None else child
        if not isinstance(child, list):
            model = _model_of_value(model, part, reference, node[key])
        node = node[key]


@cache
def _reference(model: Model, field: str) -> Reference | None:
    known = model.model_fields.get(field) if model else None
    return next((m for m in known.metadata if isinstance(m, Reference)), None) if known else None


def _model_of_value(model: Model, field: str, reference: Reference | None, value: Json) -> Model:
    """Return the class that describes the value of a field: a component's Config, a nested spec, or None."""
    if reference is not None:
        name = value.get("type") if isinstance(value, dict) else None
        component = registry.current().of_kind(reference.kind).get(str(name))
        return component.Config if component else None
    return _nested_model(model, field)


@cache
def _nested_model(model: Model, field: str) -> Model:
    known = model.model_fields.get(field) if model else None
    annotation = known.annotation if known else None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not issubclass(annotation, Config):
        return annotation
    return None

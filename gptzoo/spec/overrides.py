"""`--set a.b=value`: a change to a spec before it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from gptzoo import registry
from gptzoo.component import Config
from gptzoo.errors import Problem, SpecError
from gptzoo.reference import Reference
from gptzoo.spec.strict_json import parse_json

Model = type[BaseModel] | None  # what describes a JSON object, where that is known


def apply_overrides(model: Model, data: dict[str, Any], overrides: Iterable[str]) -> None:
    """Change, in place, JSON that `model` describes; each value is JSON, or else a string. Raises SpecError.

    A part that is named only, or left to its default, grows into the object that its option is set in.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise SpecError([Problem("--set", override, "write it as path.to.option=value")])
        try:
            value = parse_json(text, "--set")
        except SpecError:
            value = text
        set_field(model, data, path, value)


def set_field(model: Model, data: dict[str, Any], path: list[str], value: Any) -> None:
    """Set one field, in place, of JSON that `model` describes, as `apply_overrides` does."""
    node: Any = data
    reference: Reference | None = None  # what the items of a list refer to
    for depth, part in enumerate(path):
        where = "$" + "".join(f".{p}" for p in path[:depth])
        if isinstance(node, list):
            if not re.fullmatch(r"\d+", part) or int(part) >= len(node):
                raise SpecError([Problem("--set", where, f"is a list of {len(node)}; {part!r} is no index of it")])
            index: Any = int(part)
            child = node[index]
        elif isinstance(node, dict):
            index, child = part, node.get(part)
            reference = _reference(model, part)
            if child is None and reference is not None and model is not None:
                field = model.model_fields[part]
                child = None if field.is_required() else field.default  # the name of a component, or None
        else:
            raise SpecError([Problem("--set", where, f"has no options: it is {json.dumps(node)}")])
        if depth == len(path) - 1:
            node[index] = value
            return
        if isinstance(child, str):
            child = {"type": child}
        node[index] = {} if child is None else child
        if not isinstance(child, list):
            model = _described_by(model, part, reference, node[index])
        node = node[index]


def _reference(model: Model, field: str) -> Reference | None:
    known = model.model_fields.get(field) if model else None
    return next((m for m in known.metadata if isinstance(m, Reference)), None) if known else None


def _described_by(model: Model, field: str, reference: Reference | None, value: Any) -> Model:
    """The class that describes the value of a field: of the component that it names, or of a spec in a spec."""
    if reference is not None:
        name = value.get("type") if isinstance(value, dict) else None
        component = registry.current().of_kind(reference.kind).get(str(name))
        return component.Config if component else None
    known = model.model_fields.get(field) if model else None
    annotation = known.annotation if known else None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not Config:
        return annotation
    return None

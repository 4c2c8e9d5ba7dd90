"""A check of each choice by itself: a value that no spec can have is an error, not a combination to leave out.

A misspelled component, or one whose plugin was not loaded, would otherwise exclude all of its combinations, and the
ablation would compare what is left. Rules between fields are not checked here: they exclude combinations of choices
that are valid by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, create_model

from gptzoo import registry
from gptzoo.ablation.design.axes import Axis
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.schema import referenced_kind
from gptzoo.strict_model import StrictModel, did_you_mean_field, reason_of


def check_choices(axes: Sequence[Axis], model: type[BaseModel], folder: Path) -> None:
    """Raise SpecError for each choice that is valid in no spec of the class `model`.

    folder: the folder that paths in the choices are relative to.
    """
    problems = [
        Problem("axes", f"$.{axis.name}", reason)
        for axis in axes
        for choice in axis.choices
        for path, value in choice.fields.items()
        if (reason := _reason(path.split("."), value, model, folder)) is not None
    ]
    if problems:
        raise SpecError(dict.fromkeys(problems))


def _reason(path: Sequence[str], value: object, model: type[BaseModel], folder: Path) -> str | None:
    """Return why no class that may have the field accepts the value, or None if one does."""
    owners = list(_owners([model], path[:-1]))
    name = path[-1]
    if not owners or name.isdecimal():  # an entry of a list, or options that are not described
        return None
    having = [owner for owner in owners if name in owner.model_fields]
    if not having:
        known = {field for owner in owners for field in owner.model_fields}
        return f"no component has an option {name!r}{did_you_mean_field(name, sorted(known))}"
    reasons = [_reason_of_value(owner, name, value, folder) for owner in having]
    return None if None in reasons else reasons[0]


def _owners(models: Sequence[type[BaseModel]], path: Sequence[str]) -> Iterator[type[BaseModel]]:
    """Yield the classes that the object at `path` may have. A component there may be any of its kind."""
    if not path:
        yield from models
        return
    part, *rest = path
    if part.isdecimal():  # an entry of a list of components: one of the same kind
        yield from _owners(models, rest)
        return
    below: dict[type[BaseModel], None] = {}
    for field in (owner.model_fields[part] for owner in models if part in owner.model_fields):
        if (kind := referenced_kind(field)) is not None:
            below |= dict.fromkeys(component.Config for component in registry.current().of_kind(kind).values())
        else:
            types = (field.annotation, *get_args(field.annotation))
            below |= dict.fromkeys(t for t in types if isinstance(t, type) and issubclass(t, BaseModel))
    yield from _owners(list(below), rest)


def _reason_of_value(owner: type[BaseModel], name: str, value: object, folder: Path) -> str | None:
    """Return why a field of `owner` does not accept a value by itself, or None if it does."""
    try:
        _with_only(owner, name).model_validate({name: value}, context={"folder": folder})
    except ValidationError as error:
        return "; ".join(_with_place(item["loc"][1:], reason_of(item)) for item in error.errors(include_url=False))
    return None


@cache
def _with_only(owner: type[BaseModel], name: str) -> type[BaseModel]:
    """Return a class with one of the fields of `owner`."""
    field = owner.model_fields[name]
    definition: dict[str, Any] = {name: (field.annotation, field)}
    return create_model(owner.__name__, __base__=StrictModel, **definition)


def _with_place(location: Sequence[str | int], reason: str) -> str:
    """Put the place inside the value before a reason."""
    return f"{'.'.join(map(str, location))}: {reason}" if location else reason

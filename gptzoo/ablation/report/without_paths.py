"""Results as pages show them that may be mailed: without folder names and the name of the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from gptzoo.publishing.private_paths import public_record, shorten_paths_in

T = TypeVar("T")

_RECORDS = ("spec", "environment")  # JSON, in which a path is a whole text
_KEPT = ("rows", "sample")  # numbers, and generated text


def without_paths(record: T) -> T:
    """Return a copy of an outcome, an analysis or a result of a ladder without folder names and the host.

    Of every absolute path, only the last part is left.

    Statistics must be computed before: two files of one name in different folders become the same text.
    """
    return cast(T, _without_paths(record))


def _without_paths(value: object) -> object:
    if isinstance(value, str):
        return shorten_paths_in(value)
    if isinstance(value, Mapping):
        return {_without_paths(key): _without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(item) for item in value]
    if isinstance(value, BaseModel):
        return value.model_copy(update=_changes({name: getattr(value, name) for name in type(value).model_fields}))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return dataclasses.replace(value, **_changes(fields))
    return value


def _changes(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: public_record(of) if name in _RECORDS else _without_paths(of)
        for name, of in fields.items()
        if name not in _KEPT
    }

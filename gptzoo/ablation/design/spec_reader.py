"""A fast reader of many similar specs. Components that they share are validated once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from gptzoo.reference import Reference
from gptzoo.spec.files import spec_error
from gptzoo.spec.formats.origin import Origin
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import PARTNERS_OF_CORPUS, RunSpec

S = TypeVar("S", bound=RunSpec | ModelSpec)


class SpecReader:
    """A reader of the variants of one base. Relative paths in the specs are relative to `folder`."""

    def __init__(self, folder: Path):
        self.context = {"folder": folder}
        self.validated: dict[tuple[object, ...], object] = {}

    def read(self, model: type[S], data: dict[str, Any]) -> S:
        """Validate `data` as a spec of the class `model`. Raises SpecError."""
        try:
            return cast(S, model.model_validate(self._with_validated_components(model, data), context=self.context))
        except ValidationError as error:
            raise spec_error(error, {(): Origin("spec")}) from None

    def _with_validated_components(self, model: type[BaseModel], data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the JSON of components by their configs."""
        replaced = dict(data)
        for name, (reference, default) in _component_fields(model).items():
            value = data.get(name, default)
            if value is None or (name not in data and name in PARTNERS_OF_CORPUS):
                continue
            if reference is None:
                is_json = isinstance(value, dict)
                replaced[name] = self._with_validated_components(ModelSpec, value) if is_json else value
                continue
            key = (model, name, value if isinstance(value, str) else json.dumps(value, sort_keys=True))
            if key not in self.validated:
                self.validated[key] = self._validate(reference, value)
            replaced[name] = self.validated[key]
        return replaced

    def _validate(self, reference: Reference, value: object) -> object:
        try:
            return reference.validate(value, self.context)
        except ValueError:  # reported with its place when the complete spec is validated
            return value


@cache
def _component_fields(model: type[BaseModel]) -> dict[str, tuple[Reference | None, Any]]:
    """Return the fields of a spec class that name components, each with its default, and the field of a model spec.

    The latter has no reference of its own.
    """
    fields: dict[str, tuple[Reference | None, Any]] = {}
    for name, field in model.model_fields.items():
        reference = next((item for item in field.metadata if isinstance(item, Reference)), None)
        if reference is not None or field.annotation is ModelSpec:
            fields[name] = (reference, None if field.is_required() else field.default)
    return fields

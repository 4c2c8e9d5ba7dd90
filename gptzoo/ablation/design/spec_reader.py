"""Reads many specs of one base: what they have in common is validated once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from gptzoo.reference import Reference
from gptzoo.spec.files import spec_error
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec

S = TypeVar("S", bound=RunSpec | ModelSpec)


class SpecReader:
    """Reads variants of one base. A component with its options that several have is validated once."""

    def __init__(self, folder: Path):
        self.context = {"folder": folder}
        self.seen: dict[tuple[Any, ...], Any] = {}

    def read(self, model: type[S], data: dict[str, Any]) -> S:
        """The spec; raises SpecError."""
        try:
            return cast(S, model.model_validate(self._prepared(model, data), context=self.context))
        except ValidationError as error:
            raise spec_error(error, {(): "spec"}) from None

    def _prepared(self, model: Any, data: Mapping[str, Any]) -> dict[str, Any]:
        """The data with components in place of their JSON, where that is valid by itself."""
        prepared = dict(data)
        for name, (reference, default) in _references(model).items():
            value = data.get(name, default)
            if value is None:
                continue
            if reference is None:
                prepared[name] = self._prepared(ModelSpec, value) if isinstance(value, dict) else value
                continue
            key = (model, name, value if isinstance(value, str) else json.dumps(value, sort_keys=True))
            if key not in self.seen:
                self.seen[key] = self._validated(reference, value)
            prepared[name] = self.seen[key]
        return prepared

    def _validated(self, reference: Reference, value: Any) -> Any:
        try:
            return reference.validate(value, self.context)
        except ValueError:  # which is told, with its place, when the whole is read
            return value


@cache
def _references(model: Any) -> dict[str, tuple[Reference | None, Any]]:
    """The fields of a spec that name components, each with its default; that of a model refers to none by itself."""
    found: dict[str, tuple[Reference | None, Any]] = {}
    for name, known in model.model_fields.items():
        reference = next((item for item in known.metadata if isinstance(item, Reference)), None)
        if reference is not None or known.annotation is ModelSpec:
            found[name] = (reference, None if known.is_required() else known.default)
    return found

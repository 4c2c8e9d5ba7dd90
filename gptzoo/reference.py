"""How a spec refers to a component: `Annotated[Config, Reference("attention")] = by_default("sdpa")`.

The registry is asked when a value is validated and when a JSON schema is made, so plugins may come before or after the
models that refer to their kinds. `"sdpa"` is short for `{"type": "sdpa"}`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from gptzoo import registry
from gptzoo.component import Config, custom_error, error_at, errors_below


class Reference:
    """Validates the name or the full form of one component of `kind` into its `Config`."""

    # The validation context passes through: it tells paths in a spec which folder they are relative to.

    def __init__(self, kind: str):
        self.kind = kind

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(
            lambda value, info: self.validate(value, info.context),
            serialization=core_schema.plain_serializer_function_ser_schema(_dump),
        )

    def validate(self, value: Any, context: Any = None) -> Any:
        if isinstance(value, Config):
            if value.component.kind != self.kind:
                raise custom_error(f"{value.type!r} is of kind {value.component.kind}, not {self.kind}")
            return value
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, dict):
            raise custom_error(f'should be the name of a component or an object with a "type", not {_json_type(value)}')
        known = registry.current().of_kind(self.kind)
        name = value.get("type")
        if not isinstance(name, str):
            raise custom_error(f'say which {self.kind}: add "type"  (known: {", ".join(known)})')
        try:
            component = registry.current().get(self.kind, name)
        except LookupError as error:
            raise custom_error(error.args[0]) from None
        return component.Config.model_validate(value, context=context)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        known = registry.current().of_kind(self.kind)
        full = [_definition(component.Config, handler) for component in known.values()]
        return {"anyOf": [{"enum": list(known)}, *full]}


class PerLayer(Reference):
    """Like `Reference`, but also takes a list, cycled over the layers; kept as a tuple."""

    def validate(self, value: Any, context: Any = None) -> Any:
        if not isinstance(value, list | tuple):
            return super().validate(value, context)
        if not value:
            raise custom_error(f"an empty list names no {self.kind}")
        configs, errors = [], []
        for index, item in enumerate(value):
            try:
                configs.append(super().validate(item, context))
            except ValidationError as error:
                errors += errors_below(error, index)
            except PydanticCustomError as error:
                errors.append(error_at(error.message(), index, value=item))
        if errors:
            raise ValidationError.from_exception_data(self.kind, errors)
        return tuple(configs)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        one = super().__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [*one["anyOf"], {"type": "array", "items": one, "minItems": 1}]}


def by_default(name: str) -> Any:
    """The default of a field that refers to a component: the one of this name, with its own defaults."""
    return Field(default=name)


_being_written: set[str] = set()


def _definition(config: type[Config], handler: Any) -> dict[str, Any]:
    """A `$ref` to the JSON schema of a config. It is written once, so a component may nest others of its own kind."""
    ref = f"{config.component.kind}_{config.component.name}:{id(config)}"
    pointer = core_schema.definition_reference_schema(ref)
    if ref in _being_written:
        return handler(pointer)
    _being_written.add(ref)
    try:
        definition: Any = {**config.__pydantic_core_schema__, "ref": ref}
        schema = handler(core_schema.definitions_schema(pointer, [definition]))
    finally:
        _being_written.remove(ref)
    form = handler.resolve_ref_schema(schema)
    form["required"] = sorted({*form.get("required", ()), "type"})
    return schema


def _dump(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_dump(item) for item in value]
    return None if value is None else value.model_dump(mode="json")


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")

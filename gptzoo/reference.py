"""References from specs to components: `Annotated[Config, Reference("attention")] = by_default("sdpa")`.

The registry is read when a value is validated and when a JSON schema is generated, so a plugin may be loaded before or
after the models that refer to its kinds. `"sdpa"` is short for `{"type": "sdpa"}`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import PydanticCustomError, core_schema

from gptzoo import registry
from gptzoo.component import Component, Config, summary_of
from gptzoo.strict_model import error_at, errors_below, option_error


class Reference:
    """Annotation of a field that holds a component of `kind`: validates its name or object form into its `Config`."""

    def __init__(self, kind: str):
        self.kind = kind

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(
            lambda value, info: self._validate_field(value, info.context),
            serialization=core_schema.plain_serializer_function_ser_schema(_dump),
        )

    def _validate_field(self, value: object, context: dict[str, Any] | None) -> Config | tuple[Config, ...]:
        return self.validate(value, context)

    def validate(self, value: object, context: dict[str, Any] | None = None) -> Config:
        """Return the config for a name, an object, or a config. `context` has the folder that paths are relative to."""
        if isinstance(value, Config):
            if value.component.kind != self.kind:
                raise option_error(
                    f"expected a component of kind {self.kind}, got {value.component.kind} {value.type!r}"
                )
            return value
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, dict):
            raise option_error(f'expected the name of a component or an object with a "type", got {_json_type(value)}')
        known = registry.current().of_kind(self.kind)
        name = value.get("type")
        if not isinstance(name, str):
            raise option_error(f'needs a "type", the name of the {self.kind}  (known: {", ".join(known)})')
        try:
            component = registry.current().get(self.kind, name)
        except LookupError as error:
            raise option_error(error.args[0]) from None
        return component.Config.model_validate(value, context=context)

    def accepts(self, component: type[Component]) -> bool:
        """Return True if a component of the kind may stand here. Override it to restrict the choice."""
        return True

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        of_kind = registry.current().of_kind(self.kind)
        known = {name: component for name, component in of_kind.items() if self.accepts(component)}
        names = [_name_choice(component) for component in known.values()]
        objects = [_definition(component.Config, handler) for component in known.values()]
        return {
            "description": reference_description(self.kind),
            "component_kind": self.kind,  # for tools; validators ignore it
            "oneOf": [*names, *objects],
        }


class PerLayer(Reference):
    """A `Reference` that also accepts a list, cycled over the layers. Its value is a config or a tuple of configs."""

    def _validate_field(self, value: object, context: dict[str, Any] | None) -> Config | tuple[Config, ...]:
        if not isinstance(value, list | tuple):
            return self.validate(value, context)
        if not value:
            raise option_error(f"expected at least one {self.kind}, got an empty list")
        configs, errors = [], []
        for index, item in enumerate(value):
            try:
                configs.append(self.validate(item, context))
            except ValidationError as error:
                errors += errors_below(error, index)
            except PydanticCustomError as error:
                errors.append(error_at(error.message(), index, value=item))
        if errors:
            raise ValidationError.from_exception_data(self.kind, errors)
        return tuple(configs)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        item = super().__get_pydantic_json_schema__(schema, handler)
        layers = {
            "title": "one for each layer",
            "description": f"A list of {self.kind} components, cycled over the layers.",
            "type": "array",
            "items": item,
            "minItems": 1,
        }
        return {**item, "oneOf": [*item["oneOf"], layers]}


def reference_description(kind: str) -> str:
    """Describe the values of a field that refers to a component, for fields without a description of their own."""
    return f"A component of kind {kind}: its name, or an object with its type and options."


def by_default(name: str) -> Any:  # noqa: ANN401  the default of a field of any type
    """Return a field default that refers to the component `name` with its default options."""
    return Field(default=name)


def _name_choice(component: type[Component]) -> dict[str, Any]:
    """Return the JSON schema of a component's name, with texts for hover and completion in editors."""
    description = f"{summary_of(component)} With default options."
    return {"const": component.name, "title": f"{component.kind} {component.name}", "description": description}


_in_progress: set[str] = set()  # definitions that are being generated, to end the recursion of nested components


def _definition(config: type[Config], handler: GetJsonSchemaHandler) -> dict[str, Any]:
    """Return a `$ref` to the JSON schema of a config. Each is generated once, so components may nest their own kind."""
    ref = f"{config.component.kind}_{config.component.name}:{id(config)}"
    pointer = core_schema.definition_reference_schema(ref)
    if ref in _in_progress:
        recursive: dict[str, Any] = handler(pointer)
        return recursive
    _in_progress.add(ref)
    try:
        definition: Any = {**config.__pydantic_core_schema__, "ref": ref}
        schema: dict[str, Any] = handler(core_schema.definitions_schema(pointer, [definition]))
    finally:
        _in_progress.remove(ref)
    resolved = handler.resolve_ref_schema(schema)
    resolved["title"] = f"{config.component.kind} {config.component.name}"
    resolved["required"] = sorted({*resolved.get("required", ()), "type"})
    return schema


def _dump(value: Config | tuple[Config, ...] | None) -> object:
    if isinstance(value, tuple | list):
        return [_dump(item) for item in value]
    return None if value is None else value.model_dump(mode="json")


def _json_type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")

"""Descriptions of the fields of specs and components, read from their JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gptzoo.docgen.examples import EXAMPLES

Schema = dict[str, Any]

_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
_JSON_TYPES = {
    bool: "boolean",
    str: "string",
    int: "integer",
    float: "number",
    type(None): "null",
    list: "list",
    dict: "object",
}
_EMPTY: tuple[object, ...] = (None, "", [], {})
_VALUE_OF_TYPE = {"string": "text", "boolean": True, "array": [], "object": {}}


@dataclass(frozen=True)
class Field:
    """A field of a spec or an option of a component, as Markdown without line breaks."""

    name: str
    type: str
    range: str
    default: str
    description: str
    example: Any  # a JSON value
    kind: str | None = None  # of the component that the field holds
    nested: str | None = None  # reference to the definition of the objects that the field holds


def describe_fields(schema: Schema, owner: str, definitions: dict[str, Schema] | None = None) -> list[Field]:
    """Return the fields of an object schema, without the `type` of a component.

    owner: the name of the component or of the spec, by which examples are chosen.
    """
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    schema = resolve(schema, definitions)
    fields = {name: field for name, field in schema["properties"].items() if name != "type" or "const" not in field}
    required = schema.get("required", ())
    return [_describe(name, field, owner, name in required, definitions) for name, field in fields.items()]


def resolve(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Follow references to the definition of a schema."""
    while "$ref" in schema:
        schema = definitions[definition_name(schema["$ref"])]
    return schema


def definition_name(reference: str) -> str:
    """Return the name of the definition that a reference in a schema leads to."""
    return reference.rpartition("/")[2]


def _describe(name: str, schema: Schema, owner: str, is_required: bool, definitions: dict[str, Schema]) -> Field:
    known = _without_null(schema) if "inherits" in schema else schema
    if is_required:
        default = "required"
    elif "inherits" in schema:
        default = f"the model's `{schema['inherits']}`"
    elif "default" not in schema:
        default = "none"
    else:
        default = f"`{json.dumps(schema.get('default'), ensure_ascii=False)}`"
    return Field(
        name,
        " or ".join(dict.fromkeys(_types(known, definitions))),
        "; ".join(dict.fromkeys(_ranges(known, definitions))),
        default,
        " ".join(schema.get("description", "").split()),
        example_value(name, schema, owner, definitions),
        next(_values_of(schema, "component_kind"), None),
        next((ref for ref in _values_of(schema, "$ref") if not list(_values_of(schema, "component_kind"))), None),
    )


# ---------------------------------------------------------------------- types and ranges


def _choices(schema: Schema) -> list[Schema]:
    return schema.get("anyOf") or schema.get("oneOf") or [schema]


def _without_null(schema: Schema) -> Schema:
    key = "oneOf" if "oneOf" in schema else "anyOf"
    return {**schema, key: [choice for choice in _choices(schema) if choice.get("type") != "null"]}


def _types(schema: Schema, definitions: dict[str, Schema]) -> Iterator[str]:
    """Yield the types of the values that a schema accepts."""
    if "component_kind" in schema:
        yield "component"
        yield from (_type_of(choice) for choice in schema["oneOf"] if choice.get("type") in ("array", "null"))
        return
    for choice in _choices(schema):
        if choice is not schema:
            yield from _types(choice, definitions)
        elif "$ref" in choice:
            yield "object"
        elif "enum" in choice or "const" in choice:
            yield from dict.fromkeys(_JSON_TYPES[type(value)] for value in choice.get("enum", [choice.get("const")]))
        elif choice.get("type") == "array" and (items := choice.get("items") or choice.get("prefixItems")):
            parts = items if isinstance(items, list) else [items]
            names = dict.fromkeys(name for part in parts for name in _types(part, definitions))
            items = " or ".join(names)
            yield f"list of {items}s" if " " not in items else f"list ({items})"
        else:
            yield _type_of(choice)


def _type_of(schema: Schema) -> str:
    return "list" if schema.get("type") == "array" else schema.get("type", "any JSON value")


def _ranges(schema: Schema, definitions: dict[str, Schema]) -> Iterator[str]:
    """Yield the conditions on the values that a schema accepts, beyond their types."""
    if "component_kind" in schema:
        yield "the components of the kind"  # installed packages add some, so a page does not list them
        return
    for choice in _choices(schema):
        if choice is not schema:
            yield from _ranges(choice, definitions)
        elif "enum" in choice or "const" in choice:
            yield ", ".join(f"`{json.dumps(value)}`" for value in choice.get("enum", [choice.get("const")]))
        elif choice.get("type") == "boolean":
            yield "`true`, `false`"
        else:
            limits = [f"{sign} {_number(choice[key])}" for key, sign in _BOUNDS.items() if key in choice]
            if items := choice.get("items"):
                limits += [f"each {limit}" for limit in _ranges(items, definitions)]
            limits += ["not empty"] if any(key in choice for key in ("minLength", "minItems", "minProperties")) else []
            if limits:
                yield ", ".join(limits)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _values_of(schema: object, key: str) -> Iterator[str]:
    """Yield the values of a key anywhere in a schema."""
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    if isinstance(schema, dict) and isinstance(schema.get(key), str):
        yield schema[key]
    for part in parts:
        yield from _values_of(part, key)


# ---------------------------------------------------------------------- examples


def example_value(name: str, schema: Schema, owner: str, definitions: dict[str, Schema]) -> object:
    """Return a useful value of a field: a listed or declared one, else its default, else one of the right type."""
    for key in (f"{owner}.{name}", name):
        if key in EXAMPLES:
            return EXAMPLES[key]
    if "examples" in schema:
        return schema["examples"][0]
    default = schema.get("default")
    if isinstance(default, bool):
        return not default
    values = [value for choice in _choices(schema) for value in choice.get("enum", [])]
    if other := [value for value in values if value != default]:
        return other[0]
    if default not in _EMPTY:
        return default
    return _value_of(_without_null(schema), definitions)


def _value_of(schema: Schema, definitions: dict[str, Schema]) -> object:
    """Return the smallest ordinary value that a schema accepts."""
    choice = resolve(_choices(schema)[0], definitions)
    if choice is not schema and ("anyOf" in choice or "oneOf" in choice):
        return _value_of(choice, definitions)
    if "const" in choice or "enum" in choice:
        return choice.get("const", choice.get("enum", [None])[0])
    if choice.get("type") in ("integer", "number"):
        return max(choice.get("minimum", 1), 1) if "exclusiveMaximum" not in choice else 0.5
    if properties := choice.get("properties"):
        names = choice.get("required") or list(properties)[:1]
        return {name: example_value(name, properties[name], "", definitions) for name in names}
    if choice.get("type") == "array" and choice.get("items"):
        return [_value_of(choice["items"], definitions)]
    return _VALUE_OF_TYPE.get(choice.get("type", ""))

"""The JSON form of option types: lists for tuples and sets, strings for paths, dates and enumerations.

pydantic reads these forms in its JSON mode only. Specs are merged, overridden and nested as Python objects before they
are validated, so `read_json_forms` changes the schema of a model: each of its fields accepts the type itself or its
JSON form, and nothing else. All other types stay strict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import CoreConfig, CoreSchema, PydanticCustomError, SchemaValidator, core_schema, to_jsonable_python

Node = dict[str, Any]  # a core schema; pydantic's own type is a union of 60 TypedDicts
Resolve = Callable[[Any], Any]  # returns the schema that a definition-ref refers to

_DONE = "gptzoo_json_form"  # metadata key of schemas that have been changed already
_LEAVES = {"date", "datetime", "time", "timedelta", "decimal", "uuid", "enum", "bytes", "fraction", "json-or-python"}
_CONTAINERS = {"tuple", "set", "frozenset", "deque", "ordered-dict", "counter", "defaultdict", "dataclass"}
_CHILDREN = (
    *("schema", "items_schema", "keys_schema", "values_schema", "choices", "fields", "lax_schema", "steps"),
    *("arguments_schema", "extras_schema", "definitions"),
)
_KEYS_AS_STRINGS = _LEAVES | {"int", "float", "bool", "literal"}


def read_json_forms(
    schema: CoreSchema, owner: type[BaseModel], resolve: Callable[[CoreSchema], CoreSchema]
) -> CoreSchema:
    """Return the schema of the model `owner` with fields that also accept the JSON form of their type."""
    return cast(CoreSchema, _convert(cast(Node, schema), owner, resolve))


def base_type(node: Node, resolve: Resolve = lambda node: node) -> str:
    """Return the type of a schema below its constraints, defaults and validators."""
    while node["type"] in ("default", "nullable", "definition-ref") or node["type"].startswith("function-"):
        if node["type"] == "definition-ref":
            resolved = resolve(node)
            if resolved is node:
                break
            node = resolved
        elif "schema" in node:
            node = node["schema"]
        else:
            break
    kind: str = node["type"]
    return kind


def children_of(node: Node) -> Iterable[tuple[str, Node]]:
    """Yield the schemas directly below a schema, each with the key under which it stands."""
    for key in _CHILDREN:
        value = node.get(key)
        if isinstance(value, dict) and "type" in value and isinstance(value["type"], str):
            yield key, value
        elif isinstance(value, dict):
            yield from ((key, child) for child in value.values() if isinstance(child, dict))
        elif isinstance(value, list):
            children = (child[0] if isinstance(child, tuple) else child for child in value)
            yield from ((key, child) for child in children if isinstance(child, dict))


def _convert(node: Node, owner: type[BaseModel], resolve: Resolve) -> Node:
    if (node.get("metadata") or {}).get(_DONE):
        return node
    kind = node["type"]
    if kind == "definition-ref":
        return _convert_definition(node, owner, resolve)
    if kind == "model" and node["cls"] is not owner:
        return _convert_foreign_model(node)
    if kind in _LEAVES:
        return _or_json(node)
    if kind == "literal":
        return _convert_literal(node)
    node = {**node, **{key: _convert_below(node[key], owner, resolve) for key in _CHILDREN if key in node}}
    if kind in _CONTAINERS or kind == "lax-or-strict":
        node["strict"] = False  # of this level only: it accepts a list for a tuple, and checks the items strictly
    if kind in ("set", "frozenset") and "serialization" not in node:
        node["serialization"] = core_schema.wrap_serializer_function_ser_schema(_sorted_items, when_used="json")
    if isinstance(keys := node.get("keys_schema"), dict) and base_type(keys, resolve) in _KEYS_AS_STRINGS:
        node["keys_schema"] = _or_string(keys)
    return node


def _convert_below(value: object, owner: type[BaseModel], resolve: Resolve) -> object:
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            return _convert(value, owner, resolve)
        return {key: _convert_below(item, owner, resolve) for key, item in value.items()}
    if isinstance(value, list):
        return [_convert_below(item, owner, resolve) for item in value]
    if isinstance(value, tuple):
        return (_convert_below(value[0], owner, resolve), *value[1:])
    return value


def _convert_definition(node: Node, owner: type[BaseModel], resolve: Resolve) -> Node:
    """Convert a shared schema, such as an enumeration's, in its place of use. Models convert themselves."""
    definition = resolve(node)
    if definition is node or definition["type"] == "definition-ref":
        return node
    if definition["type"] == "model":
        return _convert_foreign_model(node, definition["cls"]) if definition["cls"] is not owner else node
    if definition["type"] not in (_LEAVES | _CONTAINERS | {"literal", "named-tuple", "typed-dict"}):
        return node
    copy = {key: value for key, value in definition.items() if key != "ref"}
    return _convert(copy, owner, resolve)


def _convert_foreign_model(node: Node, cls: type[BaseModel] | None = None) -> Node:
    """Let a strict pydantic model of another package read its own JSON."""
    cls = cls or cast(type[BaseModel], node["cls"])
    if not cls.model_config.get("strict") or any(hasattr(base, "_explain_unknown_keys") for base in cls.__mro__):
        return node
    model = cls

    def from_json(value: object, handler: core_schema.ValidatorFunctionWrapHandler) -> object:
        if not isinstance(value, dict):
            return handler(value)
        try:
            text = json.dumps(value)
        except (TypeError, ValueError):
            return handler(value)
        return model.model_validate_json(text)

    return _wrapped(from_json, node)


def _or_json(node: Node) -> Node:
    """Accept the JSON form of a type without parts, as pydantic reads it in its strict JSON mode."""
    validator: list[SchemaValidator] = []  # built on first use: few options of a program are ever read

    def from_json(value: object, handler: core_schema.ValidatorFunctionWrapHandler) -> object:
        if type(value) not in (str, int, float, bool, list, dict):
            return handler(value)
        if not validator:
            validator.append(_standalone(node))
        read = validator[0].validate_json(json.dumps(value), strict=True)
        if isinstance(read, Enum) and type(to_jsonable_python(read)) is not type(value):  # Python's True equals 1
            known = " or ".join(repr(to_jsonable_python(member)) for member in type(read))
            raise PydanticCustomError("gptzoo", f"should be {known}")
        return read

    return _wrapped(from_json, node)


def _or_string(node: Node) -> Node:
    """Accept the string form of a key of an object: JSON has no other keys."""
    validator: list[SchemaValidator] = []

    def from_string(value: object, handler: core_schema.ValidatorFunctionWrapHandler) -> object:
        if type(value) is not str:
            return handler(value)
        try:
            return handler(value)  # a key that is a string, or a type whose JSON form is one
        except ValidationError as error:
            if not validator:
                validator.append(_standalone(node))
            validate_strings = cast(Callable[..., object], validator[0].validate_strings)
            for validate in (validate_strings, validator[0].validate_json):  # "2" may be the member of 2
                try:
                    return validate(value, strict=True)
                except ValidationError:
                    continue
            raise error

    return _wrapped(from_string, node)


def _convert_literal(node: Node) -> Node:
    """Accept the value of an enumeration's member in `Literal[Color.RED]`."""
    members = [item for item in node["expected"] if isinstance(item, Enum | bytes)]
    if not members:
        return node
    forms = {json.dumps(to_jsonable_python(member)): member for member in reversed(members)}
    plain = {json.dumps(item) for item in node["expected"] if not isinstance(item, Enum | bytes)}

    def from_json(value: object, handler: core_schema.ValidatorFunctionWrapHandler) -> object:
        if type(value) in (str, int, float, bool):
            text = json.dumps(value)
            value = forms[text] if text in forms and text not in plain else value
        return handler(value)

    return _wrapped(from_json, node)


def _wrapped(function: core_schema.NoInfoWrapValidatorFunction, node: Node) -> Node:
    wrapper = core_schema.no_info_wrap_validator_function(function, cast(Any, node), metadata={_DONE: True})
    return cast(Node, wrapper)


def _standalone(node: Node) -> SchemaValidator:
    own = {key: value for key, value in node.items() if key != "ref"}
    return SchemaValidator(cast(Any, own), CoreConfig(strict=True, allow_inf_nan=False))


def _sorted_items(value: object, handler: core_schema.SerializerFunctionWrapHandler) -> object:
    """Serialize a set in an order that is the same in every process."""
    items = handler(value)
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if isinstance(items, list) else items


_NO_JSON = {
    "complex": "complex",
    "callable": "a callable",
    "is-instance": "a Python object",
    "is-subclass": "a class",
    "generator": "a generator",
}
_COMPOSITE_KEYS = {"tuple", "frozenset", "list", "set", "dict", "model", "dataclass", "named-tuple"}


def type_without_json(node: Node, resolve: Resolve = lambda node: node, _seen: frozenset[int] = frozenset()) -> str:
    """Return the part of an option's type that has no JSON form, such as `complex`, or "" if all have one."""
    kind = node["type"]
    if kind == "is-instance":
        return f"{node['cls'].__module__}.{node['cls'].__qualname__}"
    if kind in _NO_JSON:
        return _NO_JSON[kind]
    if kind == "json-or-python":
        return type_without_json(node["json_schema"], resolve, _seen)
    if kind == "definition-ref":
        definition = resolve(node)
        if definition is node or id(definition) in _seen:
            return ""
        return type_without_json(definition, resolve, _seen | {id(definition)})
    if kind == "lax-or-strict":
        return type_without_json(node["strict_schema"], resolve, _seen)
    for key, child in children_of(node):
        if key == "keys_schema" and base_type(child, resolve) in _COMPOSITE_KEYS:
            return f"an object with keys of type {base_type(child, resolve)}"
        if found := type_without_json(child, resolve, _seen):
            return found
    return ""

"""Descriptions of components as data: summary, options with defaults, and an example of the JSON."""

from __future__ import annotations

import inspect
import json
from typing import Any

from gptzoo import registry
from gptzoo.component import Component, summary_of
from gptzoo.errors import InputError
from gptzoo.spec.schema import config_schema, field_descriptions, referenced_kind
from gptzoo.strict_model import did_you_mean


def select_components(kind: str | None = None, name: str | None = None) -> list[type[Component]]:
    """Return all registered components, those of a kind, or the one of a kind and a name.

    Raises InputError if the kind or the name does not exist.
    """
    known = registry.current()
    if kind is not None and kind not in known.kinds:
        if matches := [f"{other} {kind}" for other in known.kinds if kind in known.of_kind(other)]:
            raise InputError(
                f"no kind named {kind!r}; it is the name of a component, so give its kind too: {' or '.join(matches)}"
            )
        raise InputError(f"no kind named {kind!r}{did_you_mean(kind, known.kinds)}  (known: {', '.join(known.kinds)})")
    if kind is not None and name is not None:
        try:
            return [known.get(kind, name)]
        except LookupError as error:
            raise InputError(error.args[0]) from None
    kinds = known.kinds if kind is None else [kind]
    return [component for each_kind in kinds for component in known.of_kind(each_kind).values()]


def summarise(component: type[Component]) -> dict[str, str]:
    """Return the kind, name, first docstring line and package of a component."""
    return {
        "kind": component.kind,
        "name": component.name,
        "summary": summary_of(component),
        "origin": str(registry.current().origin(component)),
    }


def describe(component: type[Component]) -> dict[str, Any]:
    """Return everything that `gptzoo components KIND NAME --json` prints about a component."""
    options = _describe_options(component)
    example = {"type": component.name} | {
        option["name"]: option["example"] for option in options if "inherits" not in option
    }
    requires = sorted(getattr(component, "requires", ()))
    supports = sorted(getattr(component, "supports", ()))
    return {
        **summarise(component),
        "documentation": docstring_of(component),
        "paper": component.paper,
        "options": [{key: value for key, value in option.items() if key != "example"} for option in options],
        "requires": requires,
        "supports": supports,
        "needs": requires,  # deprecated name of "requires"
        "honours": supports,  # deprecated name of "supports"
        "example": example,
    }


def docstring_of(documented: type) -> str:
    """Return the docstring of a class without its indentation, or an empty string. It is not inherited."""
    return inspect.cleandoc(documented.__doc__ or "")


def format_default(option: dict[str, Any]) -> str:
    """Return the default of an option from `describe` as text, such as "required" or "model's bias"."""
    if "inherits" in option:
        return f"model's {option['inherits']}"
    return json.dumps(option["default"]) if "default" in option else "required"


def _describe_options(component: type[Component]) -> list[dict[str, Any]]:
    descriptions = field_descriptions(component.Config)
    properties = _object_schema(config_schema(component.Config))["properties"]
    options = []
    for name, field in component.Config.model_fields.items():
        if name == "type":
            continue
        type_text = _format_type(properties[name])
        if (kind := referenced_kind(field)) is not None:
            type_text = kind + (" | null" if field.default is None and "inherits" not in properties[name] else "")
        option: dict[str, Any] = {"name": name, "type": type_text, "description": descriptions[name]}
        if "inherits" in properties[name]:
            option["inherits"] = properties[name]["inherits"]
        elif not field.is_required():
            option["default"] = properties[name].get("default")
        option["example"] = _example(properties[name])
        options.append(option)
    return options


def _object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Follow references to the schema of the object itself. A component that may nest its own kind has one."""
    while "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _format_type(schema: dict[str, Any]) -> str:
    """Return a JSON schema as short text: `integer > 0 | null`."""
    if "anyOf" in schema:
        return " | ".join(
            _format_type(member)
            for member in schema["anyOf"]
            if member.get("type") != "null" or "inherits" not in schema
        )
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {_format_type(schema['items'])}"
    bounds = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema]
    return f"{schema.get('type', 'anything')} {', '.join(limits)}".strip()


def _example(schema: dict[str, Any]) -> object:
    """Return the example that the option declares, else its default, else a value of the right type."""
    if "examples" in schema:
        return schema["examples"][0]
    if "default" in schema:
        return schema["default"]
    for member in schema.get("anyOf", schema.get("oneOf", [schema])):
        if "const" in member:
            return member["const"]
        if "oneOf" in member:
            return _example(member)
        if "enum" in member:
            return member["enum"][0]
        if (json_type := member.get("type")) in ("integer", "number"):
            return max(member.get("minimum", 0), 1)
        if json_type in ("string", "boolean", "array", "object"):
            return {"string": "…", "boolean": True, "array": [], "object": {}}[json_type]
    return None

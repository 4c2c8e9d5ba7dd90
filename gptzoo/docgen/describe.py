"""A component as data: what it is, its options with their defaults, and an example of its JSON."""

from __future__ import annotations

import inspect
import json
from typing import Any

from gptzoo import registry
from gptzoo.component import Component, nearest
from gptzoo.errors import InputError
from gptzoo.spec.schema import config_schema, describe_fields, kind_of


def find(kind: str | None = None, name: str | None = None) -> list[type[Component]]:
    """The components asked for; raises InputError for a kind or a name that there is not."""
    known = registry.current()
    if kind is not None and kind not in known.kinds:
        if homes := [f"{home} {kind}" for home in known.kinds if kind in known.of_kind(home)]:
            raise InputError(f"no kind named {kind!r}, but a component; give its kind too: {' or '.join(homes)}")
        raise InputError(f"no kind named {kind!r}{nearest(kind, known.kinds)}  (known: {', '.join(known.kinds)})")
    if kind is not None and name is not None:
        try:
            return [known.get(kind, name)]
        except LookupError as error:
            raise InputError(error.args[0]) from None
    return [part for each in ([kind] if kind else known.kinds) for part in known.of_kind(each).values()]


def summarise(component: type[Component]) -> dict[str, str]:
    """A component in one line."""
    return {
        "kind": component.kind,
        "name": component.name,
        "summary": documentation(component).partition("\n")[0],
        "origin": str(registry.current().origin(component)),
    }


def describe(component: type[Component]) -> dict[str, Any]:
    """All about a component."""
    options = _options(component)
    example = {"type": component.name} | {
        option["name"]: option["example"] for option in options if "inherits" not in option
    }
    return {
        **summarise(component),
        "documentation": documentation(component),
        "paper": component.paper,
        "options": [{key: value for key, value in option.items() if key != "example"} for option in options],
        "requires": (requires := sorted(getattr(component, "requires", ()))),
        "supports": (supports := sorted(getattr(component, "supports", ()))),
        "needs": requires,  # deprecated name of "requires"
        "honours": supports,  # deprecated name of "supports"
        "example": example,
    }


def documentation(documented: Any) -> str:
    """The docstring of a class or a function, its indentation taken away; not an inherited one."""
    return inspect.cleandoc(documented.__doc__ or "")


def default_in_words(option: dict[str, Any]) -> str:
    """The default of one of the options of `describe`."""
    if "inherits" in option:
        return f"model's {option['inherits']}"
    return json.dumps(option["default"]) if "default" in option else "required"


def _options(component: type[Component]) -> list[dict[str, Any]]:
    described = describe_fields(component.Config)
    properties = _object_schema(config_schema(component.Config))["properties"]
    options = []
    for name, field in component.Config.model_fields.items():
        if name == "type":
            continue
        words = _words(properties[name])
        if (kind := kind_of(field)) is not None:
            words = kind + (" | null" if field.default is None and "inherits" not in properties[name] else "")
        option = {"name": name, "type": words, "description": described[name]}
        if "inherits" in properties[name]:
            option["inherits"] = properties[name]["inherits"]
        elif not field.is_required():
            option["default"] = properties[name].get("default")
        option["example"] = _example(properties[name])
        options.append(option)
    return options


def _object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of the object itself; a component that may nest its own kind is behind a reference."""
    while "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _words(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words: `integer > 0 | null`."""
    if "anyOf" in schema:
        return " | ".join(
            _words(one) for one in schema["anyOf"] if one.get("type") != "null" or "inherits" not in schema
        )
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {_words(schema['items'])}"
    bounds = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema]
    return f"{schema.get('type', 'anything')} {', '.join(limits)}".strip()


def _example(schema: dict[str, Any]) -> Any:
    """The option's own example, else its default, else a value of the right type."""
    if "examples" in schema:
        return schema["examples"][0]
    if "default" in schema:
        return schema["default"]
    for one in schema.get("anyOf", [schema]):
        if "enum" in one:
            return one["enum"][0]
        if (kind := one.get("type")) in ("integer", "number"):
            return max(one.get("minimum", 0), 1)
        if kind in ("string", "boolean", "array", "object"):
            return {"string": "…", "boolean": True, "array": [], "object": {}}[kind]
    return None

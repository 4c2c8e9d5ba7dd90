"""The text of a JSON Schema for llguidance, and the refusal of keywords that llguidance does not enforce."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gptzoo.errors import InputError

# Keywords whose value is data, or an object of schemas by name. All other objects below a schema are schemas.
_DATA = ("const", "enum", "default", "examples")
_ESCAPES = 'nrbtf\\"'  # after a backslash; without u
_SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def schema_text(definition: Mapping[str, Any], *, whitespace: bool) -> str:
    """Return the JSON of a JSON Schema with options for llguidance.

    whitespace: allow whitespace between the parts of a value.

    Raises InputError for a number that is not finite, for a definition that is nested too deeply, and for
    `minProperties` that a text could satisfy only by writing one key twice.
    """
    options: dict[str, Any] = {"whitespace_flexible": whitespace}
    try:
        for path, schema in _subschemas(definition, "$"):
            _check_min_properties(path, schema)
            if _has_named_and_other_keys(schema):
                options["json_allowed_escapes"] = _ESCAPES
        return json.dumps({**definition, "x-guidance": options}, allow_nan=False)
    except ValueError:
        raise InputError("logits_processor 'json_schema': the definition has NaN or an infinite number") from None
    except RecursionError:
        raise InputError("logits_processor 'json_schema': the definition is nested too deeply") from None


def _has_named_and_other_keys(schema: Mapping[str, Any]) -> bool:
    """Return True for an object with described keys and with others, which llguidance tells apart by their spelling.

    Without escapes such as \\u0061 each key has one spelling, so another key cannot be a described one in disguise.
    """
    described = schema.get("properties") or schema.get("patternProperties")
    return bool(described) and schema.get("additionalProperties") is not False


def _subschemas(value: object, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each schema in a schema, with its path."""
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _subschemas(entry, f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    yield path, value
    for keyword, entry in value.items():
        if keyword in _SCHEMAS_BY_NAME and isinstance(entry, dict):
            for name, schema in entry.items():
                yield from _subschemas(schema, f"{path}.{keyword}.{name}")
        elif keyword not in _DATA:
            yield from _subschemas(entry, f"{path}.{keyword}")


def _check_min_properties(path: str, schema: Mapping[str, Any]) -> None:
    """Raise InputError if `minProperties` requires two keys that `required` does not name.

    llguidance counts keys and not different keys, so a text could repeat one. It excludes the names in `properties`
    from further keys, so one further key is always different from the required ones.
    """
    minimum = schema.get("minProperties")
    if isinstance(minimum, bool) or not isinstance(minimum, int | float):
        return
    required, properties = schema.get("required"), schema.get("properties")
    names = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    n_named = len(names & properties.keys()) if isinstance(properties, dict) else 0
    if minimum > n_named + 1:
        raise InputError(
            f"logits_processor 'json_schema': {path}: minProperties {minimum} cannot be guaranteed: a text could"
            f" repeat a key. Name {minimum} keys in `properties` and in `required`, or leave minProperties out."
        )

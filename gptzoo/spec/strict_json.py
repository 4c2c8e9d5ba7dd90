"""JSON as the standard has it, with errors that name the place."""

from __future__ import annotations

import json
from typing import Any

from gptzoo.errors import Problem, SpecError


def parse_json(text: str, source: str) -> Any:
    """Strict JSON: NaN and Infinity, duplicate keys and trailing text are refused. Raises SpecError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise SpecError([Problem(source, "$", f"the key {key!r} appears twice in one object")])
            found[key] = value
        return found

    def constant(name: str) -> Any:
        raise SpecError([Problem(source, "$", f"{name} is not JSON")])

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise SpecError([Problem(source, f"line {error.lineno} column {error.colno}", error.msg)]) from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise SpecError([Problem(source, "$", "holds a number with thousands of digits")]) from None
    except RecursionError:
        raise SpecError([Problem(source, "$", "nested too deeply")]) from None

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
        raise SpecError([_told(error, source)]) from None
    except ValueError:  # Python's own limit on the digits of an integer
        raise SpecError([Problem(source, "$", "holds a number with thousands of digits")]) from None
    except RecursionError:
        raise SpecError([Problem(source, "$", "nested too deeply")]) from None


def _told(error: json.JSONDecodeError, source: str) -> Problem:
    """Where JSON breaks, and why; what editors and hands do most often in words of their own."""
    if not error.doc.strip():
        return Problem(source, "$", "is empty; a JSON value is wanted")
    if error.doc.startswith("\ufeff"):
        return Problem(source, "$", "begins with a byte order mark; save it as UTF-8 without one")
    comma = len(error.doc[: error.pos].rstrip()) - 1
    for at in (error.pos, comma):  # Python 3.13 points to a comma too many, those before it behind it
        if error.doc[at : at + 1] == "," and error.doc[at + 1 :].lstrip().startswith(("}", "]")):
            error = json.JSONDecodeError("a comma before the closing bracket; JSON has none there", error.doc, at)
    return Problem(source, f"line {error.lineno} column {error.colno}", error.msg)

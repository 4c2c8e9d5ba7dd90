"""A strict JSON parser whose errors give the location."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeAlias

from gptzoo.errors import Problem, SpecError

Json: TypeAlias = Any  # a JSON value: dict, list, str, int, float, bool or None


def parse_json(text: str, source: str) -> Json:
    """Parse JSON. Raises SpecError for invalid JSON, NaN, Infinity and duplicate keys; `source` names the text."""

    def unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        result: dict[str, Json] = {}
        for key, value in pairs:
            if key in result:
                raise SpecError([Problem(source, "$", f"the key {key!r} appears twice in one object")])
            result[key] = value
        return result

    def refuse_constant(name: str) -> NoReturn:
        raise SpecError([Problem(source, "$", f"{name} is not valid JSON")])

    try:
        return json.loads(text, object_pairs_hook=unique_keys, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        raise SpecError([_problem(error, source)]) from None
    except ValueError:  # Python limits the number of digits of an integer
        raise SpecError([Problem(source, "$", "contains an integer with thousands of digits")]) from None
    except RecursionError:
        raise SpecError([Problem(source, "$", "is nested too deeply")]) from None


def _problem(error: json.JSONDecodeError, source: str) -> Problem:
    """Describe a syntax error, with a better message than Python's for common mistakes."""
    if not error.doc.strip():
        return Problem(source, "$", "is empty; expected a JSON value")
    if error.doc.startswith("\ufeff"):
        return Problem(source, "$", "starts with a byte order mark. Save it as UTF-8 without one.")
    comma = len(error.doc[: error.pos].rstrip()) - 1
    for pos in (error.pos, comma):  # Python 3.13 reports the position of a trailing comma, older versions the next one
        if error.doc[pos : pos + 1] == "," and error.doc[pos + 1 :].lstrip().startswith(("}", "]")):
            error = json.JSONDecodeError("trailing comma before the closing bracket", error.doc, pos)
    return Problem(source, f"line {error.lineno} column {error.colno}", error.msg)

"""A strict JSON parser whose errors give the location."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from typing import Any, NoReturn, TypeAlias

from gptzoo.errors import Problem, SpecError
from gptzoo.strict_model import escape_surrogates

Json: TypeAlias = Any  # a JSON value: dict, list, str, int, float, bool or None
Location: TypeAlias = tuple[str | int, ...]  # the keys and indices that lead to a value

TOO_DEEP = "is nested too deeply"
TOO_MANY_DIGITS = "contains an integer with thousands of digits"
_SPACE = re.compile(r"[ \t\n\r]*")


def json_path(location: Location) -> str:
    """Return the path of a location, such as `$.axes.lr[2]`. UTF-8 can represent it, whatever the keys are."""
    return escape_surrogates("$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location))


def appears_twice(key: str) -> str:
    """Return the reason why a key is refused that an object already has."""
    return f"the key {key!r} appears twice in one object"


def parse_json(text: str, source: str) -> Json:
    """Parse JSON. Raises SpecError for invalid JSON, NaN, Infinity and duplicate keys; `source` names the text."""
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except _Refused as error:
        raise SpecError([_refused_at(text, source, str(error))]) from None
    except json.JSONDecodeError as error:
        raise SpecError([_problem(error, source)]) from None
    except ValueError:  # Python limits the number of digits of an integer
        raise SpecError([Problem(source, "$", TOO_MANY_DIGITS)]) from None
    except RecursionError:
        raise SpecError([Problem(source, "$", TOO_DEEP)]) from None


def key_positions(text: str) -> Iterator[tuple[Location, int]]:
    """Yield the location and the offset of each key and list item of a JSON text, in their order in the text."""
    decode = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode

    def skip_space(position: int) -> int:
        space = _SPACE.match(text, position)
        return space.end() if space else position

    def walk(position: int, location: Location) -> Generator[tuple[Location, int], None, int]:
        opening = text[position]
        if opening not in "{[":
            return int(decode(text, position)[1])
        n_items = 0
        position = skip_space(position + 1)
        while text[position] not in "}]":
            start, key = position, n_items
            if opening == "{":
                key, position = decode(text, position)
                position = skip_space(skip_space(position) + 1)  # past the colon
            yield (*location, key), start
            position = skip_space((yield from walk(position, (*location, key))))
            if text[position] == ",":
                position = skip_space(position + 1)
            n_items += 1
        return position + 1

    yield from walk(skip_space(0), ())


class _Refused(Exception):
    """A value that json.loads accepts and a spec does not."""


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result: dict[str, Json] = {}
    for key, value in pairs:
        if key in result:
            raise _Refused(appears_twice(key))
        result[key] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not valid JSON")


def _refused_at(text: str, source: str, reason: str) -> Problem:
    """Return the problem of a text with a duplicate key or a constant such as NaN, at the first of them."""
    seen: set[Location] = set()
    last: tuple[Location, int] = ((), 0)
    try:
        for last in key_positions(text):
            if last[0] in seen:
                reason = appears_twice(str(last[0][-1]))
                break
            seen.add(last[0])
    except _Refused as error:  # a constant, in the value at the last location
        reason = str(error)
    except RecursionError:
        return Problem(source, "$", reason)
    return Problem(source, json_path(last[0]), reason, line_at(text, last[1]))


def line_at(text: str, position: int) -> int | None:
    """Return the line of an offset, from 1. Return None if the text is a single line, where it would say nothing."""
    return text.count("\n", 0, position) + 1 if "\n" in text.strip() else None


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

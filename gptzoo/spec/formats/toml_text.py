"""TOML files, read with the standard library's parser. Dates and times become strings, as in JSON."""

from __future__ import annotations

import bisect
import datetime
import math
import re
from collections.abc import Mapping

from gptzoo.errors import Problem, SpecError
from gptzoo.spec.formats.origin import Origin
from gptzoo.spec.strict_json import TOO_DEEP, TOO_MANY_DIGITS, Json, Location

_REASON_AND_PLACE = re.compile(r"(?P<reason>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)")
_REASONS = {
    "Cannot overwrite a value": "a key appears twice",
    "Cannot mutate immutable namespace": "a key appears twice",
}


def parse(text: str, source: str) -> Json:
    """Parse TOML. Raises SpecError."""
    import tomllib

    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError([_problem(str(error), text, source)]) from None
    except ValueError:  # Python limits the number of digits of an integer
        raise SpecError([Problem(source, "$", TOO_MANY_DIGITS)]) from None
    except RecursionError:
        raise SpecError([Problem(source, "$", TOO_DEEP)]) from None
    return _to_json(value, (), Origin(source, find_line=lambda location: find_line(text, location)))


def find_line(text: str, location: Location) -> int | None:
    """Return the line of the statement that adds the value at a location, or None if the text has no such value.

    The parser gives no lines of values. So they are found by parsing the first lines of the text: the value appears
    with the first line of its statement.
    """
    import tomllib

    lines = text.splitlines(keepends=True)

    def has_value(n_lines: int) -> bool:
        """Return True if the first lines have the value. A statement that they cut off is completed first."""
        for end in range(n_lines, len(lines) + 1):
            try:
                return _contains(tomllib.loads("".join(lines[:end])), location)
            except tomllib.TOMLDecodeError:
                continue
        return False

    if not has_value(len(lines)):
        return None
    return 1 + bisect.bisect_left(range(1, len(lines) + 1), True, key=has_value)


def _contains(value: Json, location: Location) -> bool:
    for part in location:
        if isinstance(value, Mapping):
            if part not in value:
                return False
        elif not (isinstance(value, list) and isinstance(part, int) and part < len(value)):
            return False
        value = value[part]
    return True


def _to_json(value: object, location: Location, origin: Origin) -> Json:
    """Return a value with strings in place of dates and times. Raises SpecError for `inf` and `nan`."""
    if isinstance(value, dict):
        return {key: _to_json(entry, (*location, key), origin) for key, entry in value.items()}
    if isinstance(value, list):
        return [_to_json(entry, (*location, index), origin) for index, entry in enumerate(value)]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError([origin.problem(location, f"{value} is not a number that JSON has")])
    return value


def _problem(message: str, text: str, source: str) -> Problem:
    match = _REASON_AND_PLACE.fullmatch(message)
    if match is None:
        return Problem(source, "$", message)
    reason = _REASONS.get(match["reason"], match["reason"])
    if match["line"] is None:
        return Problem(source, f"line {len(text.splitlines())}", f"{reason} at the end of the file")
    return Problem(source, f"line {match['line']} column {match['column']}", reason)

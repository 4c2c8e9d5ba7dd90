"""JSON files, with `//` and `/* */` comments. A `.jsonc` file may have trailing commas as well.

Comments are replaced by spaces, so Python's own JSON parser reads the rest, and the lines of its errors are right.
"""

from __future__ import annotations

import re

from gptzoo.errors import Problem, SpecError
from gptzoo.spec.strict_json import Json, Location, key_positions, line_at, parse_json

_STRING = r'"(?:\\.|[^"\\\n])*"?'
_STRING_OR_COMMENT = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?\*/|/\*", re.DOTALL)
_STRING_OR_LAST_COMMA = re.compile(rf"{_STRING}|(?<=[^\s\[{{,:])(\s*),(?=\s*[\]}}])")


def parse(text: str, source: str) -> Json:
    """Parse JSON with comments. Raises SpecError."""
    return parse_json(_without_comments(text, source), source)


def parse_jsonc(text: str, source: str) -> Json:
    """Parse JSON with comments and trailing commas. Raises SpecError."""
    return parse_json(_without_last_commas(_without_comments(text, source)), source)


def find_line(text: str, location: Location) -> int | None:
    """Return the line of the key or list item at a location of a valid text, or None if it has no such value."""
    plain = _without_last_commas(_without_comments(text, ""))
    found = next((position for place, position in key_positions(plain) if place == location), None)
    return None if found is None else line_at(text, found)


def _without_comments(text: str, source: str) -> str:
    def blank(match: re.Match[str]) -> str:
        if match[0] == "/*":
            n_lines = text.count("\n", 0, match.start())
            column = match.start() - text.rfind("\n", 0, match.start())
            raise SpecError([Problem(source, f"line {n_lines + 1} column {column}", "comment without its end, */")])
        return match[0] if match[0].startswith('"') else re.sub(r"[^\n]", " ", match[0])

    return _STRING_OR_COMMENT.sub(blank, text)


def _without_last_commas(text: str) -> str:
    return _STRING_OR_LAST_COMMA.sub(lambda match: match[0] if match[1] is None else match[1] + " ", text)

"""YAML files, by the rules of YAML 1.2: `1e-3` is a number, and `no` and dates are strings.

ruamel.yaml parses a text to events. This file composes them to JSON values by the core schema of YAML 1.2 (section 10.3
of its specification). The loaders of Python's libraries deviate from it: they read `1_000` as a number, for example.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from gptzoo.errors import Problem, SpecError
from gptzoo.spec.strict_json import TOO_DEEP, TOO_MANY_DIGITS, Json, Location, appears_twice, json_path

if TYPE_CHECKING:
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.events import NodeEvent

_MAX_VALUES = 100_000  # aliases of aliases can stand for any number of values

_NULL = ("", "~", "null", "Null", "NULL")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGERS = ((re.compile(r"[-+]?[0-9]+"), 10), (re.compile(r"0o[0-7]+"), 8), (re.compile(r"0x[0-9a-fA-F]+"), 16))
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_STRING_TAGS = ("!", "tag:yaml.org,2002:str")

Event: TypeAlias = Any  # an event of ruamel.yaml, whose classes are imported with the first YAML file


def parse(text: str, source: str) -> Json:
    """Parse YAML with one document. Raises SpecError."""
    return _Composer(text, source).value


def find_line(text: str, location: Location) -> int | None:
    """Return the line of the key or list item at a location of a valid text, or None if it has no such value."""
    return _Composer(text, "").lines.get(location)


class _Composer:
    """Composes the JSON value of a text from the parser's events, with the line of each key and list item."""

    def __init__(self, text: str, source: str):
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        self.source = source
        self.lines: dict[Location, int] = {}
        self._anchors: dict[str, tuple[Json, int]] = {}  # values, and how many values each consists of
        self._n_values = 0
        self._events: Iterator[Event] = YAML(typ="safe", pure=True, plug_ins=[]).parse(text)
        try:
            self.value = self._document()
        except MarkedYAMLError as error:
            raise SpecError([_syntax_problem(error, source)]) from None
        except YAMLError as error:
            raise SpecError([Problem(source, "$", f"is not YAML: {str(error).splitlines()[0]}")]) from None
        except RecursionError:
            raise SpecError([Problem(source, "$", TOO_DEEP)]) from None

    def _document(self) -> Json:
        next(self._events)  # the start of the stream
        if type(next(self._events)).__name__ == "StreamEndEvent":
            raise SpecError([Problem(self.source, "$", "is empty; expected the fields of a spec")])
        value = self._compose(next(self._events), ())
        next(self._events)  # the end of the document
        event = next(self._events)
        if type(event).__name__ != "StreamEndEvent":
            self._refuse(event, (), "a second document starts here. A spec file has one.")
        return value

    def _compose(self, event: Event, location: Location) -> Json:
        """Return the value that starts with an event."""
        n_before = self._n_values
        self._count(1, event, location)
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._copy(event, location)
        if kind == "ScalarEvent":
            value = self._scalar(event, location)
        elif event.tag is not None:
            self._refuse(event, location, f"the tag {event.tag} is not supported. Write the value without it.")
        elif kind == "MappingStartEvent":
            value = self._mapping(location)
        else:
            value = self._sequence(location)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._n_values - n_before)
        return value

    def _copy(self, event: NodeEvent, location: Location) -> Json:
        """Return a copy of the value of an alias: a later change of one place must not change another."""
        if event.anchor not in self._anchors:
            self._refuse(event, location, f"the alias *{event.anchor} has no anchor &{event.anchor} before it")
        value, n_values = self._anchors[event.anchor]
        self._count(n_values, event, location)
        return copy.deepcopy(value)

    def _mapping(self, location: Location) -> Json:
        value: dict[str, Json] = {}
        while type(event := next(self._events)).__name__ != "MappingEndEvent":
            if type(event).__name__ != "ScalarEvent":
                self._refuse(event, location, "a key should be a plain text, not a list, an object or an alias")
            key = _text(event)
            if key == "<<" and event.style is None:
                self._refuse(
                    event,
                    location,
                    'YAML 1.2 has no merge key "<<". Repeat the fields; an alias can stand for a whole value.',
                )
            if key in value:
                self._refuse(event, (*location, key), appears_twice(key))
            self.lines[(*location, key)] = _line(event)
            value[key] = self._compose(next(self._events), (*location, key))
        return value

    def _sequence(self, location: Location) -> Json:
        value: list[Json] = []
        while type(event := next(self._events)).__name__ != "SequenceEndEvent":
            item = (*location, len(value))
            self.lines[item] = _line(event)
            value.append(self._compose(event, item))
        return value

    def _scalar(self, event: Event, location: Location) -> Json:
        """Return the value of a scalar by the core schema of YAML 1.2. Raises SpecError for `.inf` and `.nan`."""
        text = _text(event)
        if event.tag is not None and event.tag not in _STRING_TAGS:
            self._refuse(event, location, f"the tag {event.tag} is not supported. Write the value without it.")
        if event.style is not None or event.tag is not None:
            return text
        if text in _NULL:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _NOT_FINITE.fullmatch(text):
            self._refuse(event, location, f"{text} is not a number that JSON has")
        for pattern, base in _INTEGERS:
            if pattern.fullmatch(text):
                try:
                    return int(text, base)
                except ValueError:  # Python limits the number of digits of an integer
                    self._refuse(event, location, TOO_MANY_DIGITS)
        return float(text) if _FLOAT.fullmatch(text) else text

    def _count(self, n_values: int, event: Event, location: Location) -> None:
        self._n_values += n_values
        if self._n_values > _MAX_VALUES:
            self._refuse(event, location, f"aliases expand to more than {_MAX_VALUES:,} values")

    def _refuse(self, event: Event, location: Location, reason: str) -> NoReturn:
        raise SpecError([Problem(self.source, json_path(location), reason, _line(event))])


def _text(event: Event) -> str:
    """Return the text of a scalar. JSON writes a character beyond U+FFFF as two escapes, which are joined here."""
    text: str = event.value
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") if event.style == '"' else text


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1


def _syntax_problem(error: MarkedYAMLError, source: str) -> Problem:
    reason = error.problem or error.context or "is not YAML"
    if "'\\t'" in reason:
        reason = "a tab. YAML is indented with spaces."
    mark = error.problem_mark or error.context_mark
    return Problem(source, "$" if mark is None else f"line {mark.line + 1} column {mark.column + 1}", reason)

"""`Origin`, the place that a part of a spec comes from, for error messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gptzoo.errors import Problem
from gptzoo.spec.strict_json import Location, json_path

LineFinder = Callable[[Location], int | None]


def _no_line(location: Location) -> None:
    return None


@dataclass(frozen=True)
class Origin:
    """The place that a part of a spec comes from: a file or a stand-in for one, and the location in it."""

    name: str
    location: Location = ()
    find_line: LineFinder = _no_line  # the line of a location in the file, or None

    def problem(self, location: Location, reason: str) -> Problem:
        """Return the problem at a location below this place, with the line of the nearest value that has one."""
        full = (*self.location, *location)
        lines = (self.find_line(full[:n]) for n in range(len(full), 0, -1))
        line = next((line for line in lines if line is not None), None)
        return Problem(self.name, json_path(full), reason, line)

    def below(self, location: Location) -> Origin:
        """Return the origin of a part."""
        return replace(self, location=(*self.location, *location))

    def without_lines(self) -> Origin:
        """Return the same place for a value that is not in the file, such as one of `--set`."""
        return replace(self, find_line=_no_line)


Origins = dict[Location, Origin]
"""The origin of each part of a spec that has its own, by the location of the part. () is that of the whole."""


def problem_at(origins: Mapping[Location, Origin], location: Location, reason: str) -> Problem:
    """Return the problem at a location of a spec."""
    prefix = _innermost(origins, location)
    return origins[prefix].problem(location[len(prefix) :], reason)


def mark_overridden(origins: Origins, location: Location) -> None:
    """Record that the value at a location of a spec does not come from its file."""
    prefix = _innermost(origins, location)
    origins[location] = origins[prefix].below(location[len(prefix) :]).without_lines()


def _innermost(origins: Mapping[Location, Origin], location: Location) -> Location:
    return max((prefix for prefix in origins if location[: len(prefix)] == prefix), key=len)

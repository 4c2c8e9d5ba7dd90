"""The table of wrong components: each with its right parent and the property of the kit that must catch it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

Class = TypeVar("Class", bound=type)


class Entry(NamedTuple):
    """A wrong component, the component that it would be without the mistake, and the property that tells them apart."""

    wrong: type
    right: type
    property: str
    slow: str  # why only the slow properties can find the mistake; empty if the quick ones must


TABLE: list[Entry] = []


def caught_by(name: str, slow: str = "") -> Callable[[Class], Class]:
    """Enter the decorated class into the table. Its first base class is the right component."""

    def enter(wrong: Class) -> Class:
        TABLE.append(Entry(wrong, wrong.__mro__[1], name, slow))
        return wrong

    return enter

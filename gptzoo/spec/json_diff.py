"""Where two JSON values differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """One thing that is not the same in a and b; None stands for what is not there."""

    name: str
    a: Any
    b: Any


def differences(a: Any, b: Any, path: str = "$") -> Iterator[Change]:
    """Every place, by its `$.path`, where two JSON values differ."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            yield from differences(a.get(key), b.get(key), f"{path}.{key}")
    elif a != b:
        yield Change(path, a, b)

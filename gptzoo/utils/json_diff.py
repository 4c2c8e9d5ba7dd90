"""The differences between two JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One difference between a and b. None stands for a missing value."""

    name: str
    a: object
    b: object


def differences(a: object, b: object, path: str = "$") -> Iterator[Change]:
    """Yield the differences between two JSON values, each with its `$.path`."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            yield from differences(a.get(key), b.get(key), f"{path}.{key}")
    elif a != b:
        yield Change(path, a, b)

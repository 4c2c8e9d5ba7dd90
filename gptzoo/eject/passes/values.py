"""Values that are known when a variant is ejected, from its spec and the built model."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import nn

from gptzoo.component import Component, Config
from gptzoo.dims import Dims
from gptzoo.eject.passes.unit import Unit


class Marker:
    """A value that stands for no Python value."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def __deepcopy__(self, memo: object) -> Marker:
        return self


UNKNOWN = Marker("unknown")
CONTEXT = Marker("context")  # the value of every forward context
ASSUMED: dict[str, object] = {
    "documents": None,
    "memory": None,
    "memory_valid": None,
    "causal": True,
    "capture": frozenset(),
    "memo": None,
    "position_limit": None,
}
"""Fields of a forward context whose value an ejected file fixes: it trains and samples, one document per row."""


@dataclasses.dataclass
class Rows:
    """The known elements of an iterable: one value for each name that a loop over it binds."""

    element: object


class Evaluator(Protocol):
    """A source of the values of expressions inside one function."""

    unit: Unit

    def value(self, node: ast.AST | None) -> object:
        """Return the value of an expression, or UNKNOWN."""


def is_simple(value: object) -> bool:
    """Return True for values that are written as constants wherever they occur."""
    return value is None or isinstance(value, bool | str)


def is_number(value: object) -> bool:
    """Return True for an int or a float."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_plain(value: object) -> bool:
    """Return True for None, bool, number, text, and tuples and sets of them."""
    if isinstance(value, tuple | frozenset):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def truth(value: object) -> object:
    """Return whether a value counts as true, or UNKNOWN."""
    if isinstance(value, nn.ModuleList):
        return len(value) > 0
    if isinstance(value, nn.Module | Config | Component):
        return True
    return bool(value) if is_plain(value) or isinstance(value, dict) else UNKNOWN


def common(values: Iterable[object]) -> object:
    """Return the value that all instances of a part have, or UNKNOWN."""
    first, *others = values
    if isinstance(first, Dims):
        first = dataclasses.replace(first, layer=None)
        same = all(isinstance(other, Dims) and dataclasses.replace(other, layer=None) == first for other in others)
    elif is_plain(first) or isinstance(first, Config | dict):
        same = all(type(other) is type(first) and other == first for other in others)
    elif isinstance(first, nn.Module | Component):
        same = all(_is_alike(first, other) for other in others)
    elif isinstance(first, torch.Tensor):
        same = all(isinstance(other, torch.Tensor) for other in others)
    else:
        same = False
    return first if same else UNKNOWN


def _is_alike(first: object, other: object) -> bool:
    if isinstance(first, nn.ModuleList) and isinstance(other, nn.ModuleList):
        return len(first) == len(other) and all(map(_is_alike, first, other))
    return type(other) is type(first) and getattr(other, "config", None) == getattr(first, "config", None)

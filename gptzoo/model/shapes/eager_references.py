"""Operations on the meta device, without an import of torch's compiler.

torch computes shapes on the meta device by Python functions, and hides many of them from its compiler. The decorator
for that (`torch._disable_dynamo`) imports `torch._dynamo` when it is first called, which takes as long as the import of
torch. It looks first whether the function has an attribute with its hidden form.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from types import CellType, FunctionType
from typing import Any

import torch
from torch import _refs as references
from torch._decomp import global_decomposition_table

_HIDDEN_FORM = "__dynamo_disable"


@contextlib.contextmanager
def eager_references() -> Iterator[None]:
    """Run torch's Python functions of the meta device without importing the compiler to hide them from it.

    While it is not imported, there is nothing to hide them from. If it is imported already, the block changes nothing,
    and after the block all functions are as before it. In a version of torch that hides functions in another way, the
    block only takes longer.
    """
    functions = [] if "torch._dynamo" in sys.modules else list(_hidden_functions())
    for function in functions:
        setattr(function, _HIDDEN_FORM, function)
    try:
        yield
    finally:
        for function in functions:
            if getattr(function, _HIDDEN_FORM, None) is function:
                delattr(function, _HIDDEN_FORM)


def _hidden_functions() -> Iterator[FunctionType]:
    """Yield the functions under the decorator that were not called yet."""
    modules = (references, references.special, references.nn.functional)
    tables: list[Mapping[Any, object]] = [*global_decomposition_table.values(), *map(vars, modules)]
    to_visit = [value for table in tables for value in table.values() if isinstance(value, FunctionType)]
    seen = set(to_visit)
    decorator_file = torch._disable_dynamo.__code__.co_filename
    while to_visit:
        function = to_visit.pop()
        inside = {f for f in map(_content, function.__closure__ or ()) if isinstance(f, FunctionType)} - seen
        seen |= inside
        to_visit += inside
        if function.__code__.co_filename == decorator_file:
            yield from (f for f in inside if not hasattr(f, _HIDDEN_FORM))


def _content(cell: CellType) -> object:
    """Return the content of a cell of a closure, or None if it is empty."""
    try:
        content: object = cell.cell_contents
    except ValueError:
        return None
    return content

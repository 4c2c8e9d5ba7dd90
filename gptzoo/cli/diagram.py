"""The data flow of a block as a drawing.

Operations follow each other on a vertical spine. A rail beside the spine carries a value past the operations that do
not take it, such as the residual stream past a norm and a sublayer:

╭─┤
│ ├ norm_layer
│ ├ attention
╰─⊕
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gptzoo.inspection.data_flow import Rail, continues_on_spine, lay_out_rails

if TYPE_CHECKING:
    from gptzoo.inspection.norm_trace import Operation


@dataclass(frozen=True)
class Line:
    """One line of the drawing."""

    drawing: str
    operation: int | None = None  # index of the operation whose label follows the drawing
    below: str = ""  # the drawing for further lines of that label


def draw(operations: Sequence[Operation]) -> Iterator[Line]:
    """Yield the lines of the drawing from top to bottom. All have the same width."""
    rails = lay_out_rails(operations)
    spine = 2 * (max((rail.column for rail in rails), default=-1) + 1)  # its column of text
    rail_by_source = {rail.source: rail for rail in rails}
    for index in range(-1, len(operations)):
        continues = continues_on_spine(operations, index)
        if index >= 0:
            yield Line(_operation(operations, rails, spine, index), index, _below(rails, spine, index, continues))
        if index in rail_by_source:
            yield Line(_fork(rails, spine, rail_by_source[index], continues))


def _operation(operations: Sequence[Operation], rails: Sequence[Rail], spine: int, index: int) -> str:
    operation = operations[index]
    arriving = [rail for rail in rails if index in rail.targets]
    if operation.name == "add":
        mark = "⊕"
    elif index - 1 not in operation.inputs:
        mark = "┬"
    else:
        mark = "┼" if arriving else "├"
    line = _verticals(rails, spine, [rail for rail in rails if rail.passes(index)]) + mark
    for rail in arriving:
        line = _connect(line, _x(rail, spine), spine, "╰" if index == rail.targets[-1] else "├")
    return line


def _fork(rails: Sequence[Rail], spine: int, rail: Rail, continues: bool) -> str:
    passing = [other for other in rails if other.source < rail.source < other.targets[-1]]
    return _connect(_verticals(rails, spine, passing) + ("┤" if continues else "╯"), _x(rail, spine), spine, "╭")


def _below(rails: Sequence[Rail], spine: int, index: int, continues: bool) -> str:
    passing = [rail for rail in rails if rail.source < index < rail.targets[-1]]
    return _verticals(rails, spine, passing) + ("│" if continues else " ")


def _x(rail: Rail, spine: int) -> int:
    return spine - 2 * (rail.column + 1)


def _verticals(rails: Sequence[Rail], spine: int, passing: Sequence[Rail]) -> str:
    return "".join("│" if any(_x(rail, spine) == x for rail in passing) else " " for x in range(spine))


def _connect(line: str, start: int, spine: int, corner: str) -> str:
    """Draw a horizontal line from a rail to the spine, across the rails between them."""
    between = "".join("┼" if char in "│┼" else "─" for char in line[start + 1 : spine])
    return line[:start] + corner + between + line[spine:]

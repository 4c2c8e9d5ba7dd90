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

if TYPE_CHECKING:
    from gptzoo.inspection.norm_trace import Operation


@dataclass(frozen=True)
class Line:
    """One line of the drawing."""

    drawing: str
    operation: int | None = None  # index of the operation whose label follows the drawing
    below: str = ""  # the drawing for further lines of that label


@dataclass(frozen=True)
class _Rail:
    source: int  # the operation whose result it carries; -1 is the input of the block
    targets: tuple[int, ...]
    x: int  # column

    def passes(self, operation: int) -> bool:
        return self.source < operation <= self.targets[-1]


def draw(operations: Sequence[Operation]) -> Iterator[Line]:
    """Yield the lines of the drawing from top to bottom. All have the same width."""
    rails, spine = _layout(operations)
    rail_by_source = {rail.source: rail for rail in rails}
    for index in range(-1, len(operations)):
        continues = index + 1 == len(operations) or index in operations[index + 1].inputs
        if index >= 0:
            yield Line(_operation(operations, rails, spine, index), index, _below(rails, spine, index, continues))
        if index in rail_by_source:
            yield Line(_fork(rails, spine, rail_by_source[index], continues))


def _layout(operations: Sequence[Operation]) -> tuple[list[_Rail], int]:
    """Return the rails and the column of the spine. Short rails are nearest to the spine."""
    targets = {
        source: tuple(i for i, operation in enumerate(operations) if source in operation.inputs and i != source + 1)
        for source in range(-1, len(operations))
    }
    columns: dict[int, int] = {}
    for source in sorted((s for s in targets if targets[s]), key=lambda s: targets[s][-1] - s):
        taken = {
            column for other, column in columns.items() if other < targets[source][-1] and source < targets[other][-1]
        }
        columns[source] = next(column for column in range(len(targets)) if column not in taken)
    n_columns = max(columns.values(), default=-1) + 1
    rails = [_Rail(source, targets[source], 2 * (n_columns - 1 - column)) for source, column in columns.items()]
    return rails, 2 * n_columns


def _operation(operations: Sequence[Operation], rails: Sequence[_Rail], spine: int, index: int) -> str:
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
        line = _connect(line, rail.x, spine, "╰" if index == rail.targets[-1] else "├")
    return line


def _fork(rails: Sequence[_Rail], spine: int, rail: _Rail, continues: bool) -> str:
    passing = [other for other in rails if other.source < rail.source < other.targets[-1]]
    return _connect(_verticals(rails, spine, passing) + ("┤" if continues else "╯"), rail.x, spine, "╭")


def _below(rails: Sequence[_Rail], spine: int, index: int, continues: bool) -> str:
    passing = [rail for rail in rails if rail.source < index < rail.targets[-1]]
    return _verticals(rails, spine, passing) + ("│" if continues else " ")


def _verticals(rails: Sequence[_Rail], spine: int, passing: Sequence[_Rail]) -> str:
    return "".join("│" if any(rail.x == x for rail in passing) else " " for x in range(spine))


def _connect(line: str, start: int, spine: int, corner: str) -> str:
    """Draw a horizontal line from a rail to the spine, across the rails between them."""
    between = "".join("┼" if char in "│┼" else "─" for char in line[start + 1 : spine])
    return line[:start] + corner + between + line[spine:]

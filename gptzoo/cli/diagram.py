"""The steps of a block as a drawing: a spine of steps, and rails that carry a value past the steps that do not take it.

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
    """One line: the drawing, the operation whose label belongs beside it, and what to draw below that label."""

    drawing: str
    operation: int | None = None
    below: str = ""


@dataclass(frozen=True)
class _Rail:
    source: int  # the operation whose result it carries; -1 is what comes into the block
    targets: tuple[int, ...]
    x: int

    def passes(self, operation: int) -> bool:
        return self.source < operation <= self.targets[-1]


def draw(operations: Sequence[Operation]) -> Iterator[Line]:
    """The lines of the drawing, all equally wide, top to bottom."""
    rails, spine = _rails(operations)
    by_source = {rail.source: rail for rail in rails}
    for index in range(-1, len(operations)):
        on = index + 1 == len(operations) or index in operations[index + 1].inputs
        if index >= 0:
            yield Line(_step(operations, rails, spine, index), index, _below(rails, spine, index, on))
        if index in by_source:
            yield Line(_fork(rails, spine, by_source[index], on))


def _rails(operations: Sequence[Operation]) -> tuple[list[_Rail], int]:
    """The rails, short ones nearest to the spine, and the column of the spine."""
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


def _step(operations: Sequence[Operation], rails: Sequence[_Rail], spine: int, index: int) -> str:
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
        line = _join(line, rail.x, spine, "╰" if index == rail.targets[-1] else "├")
    return line


def _fork(rails: Sequence[_Rail], spine: int, rail: _Rail, on: bool) -> str:
    passing = [other for other in rails if other.source < rail.source < other.targets[-1]]
    return _join(_verticals(rails, spine, passing) + ("┤" if on else "╯"), rail.x, spine, "╭")


def _below(rails: Sequence[_Rail], spine: int, index: int, on: bool) -> str:
    passing = [rail for rail in rails if rail.source < index < rail.targets[-1]]
    return _verticals(rails, spine, passing) + ("│" if on else " ")


def _verticals(rails: Sequence[_Rail], spine: int, passing: Sequence[_Rail]) -> str:
    return "".join("│" if any(rail.x == x for rail in passing) else " " for x in range(spine))


def _join(line: str, start: int, spine: int, corner: str) -> str:
    """A horizontal from a rail to the spine, crossing what is between."""
    between = "".join("┼" if char in "│┼" else "─" for char in line[start + 1 : spine])
    return line[:start] + corner + between + line[spine:]

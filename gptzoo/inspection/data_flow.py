"""The data flow of a block as a spine and rails.

Operations follow each other on a spine. A rail carries a value past the operations that do not take it, such as the
residual stream past a norm and a sublayer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptzoo.inspection.norm_trace import Operation


@dataclass(frozen=True)
class Rail:
    """A value that passes operations beside the spine."""

    source: int  # the operation whose result it carries; -1 is the input of the block
    targets: tuple[int, ...]
    column: int  # 0 is nearest to the spine

    def passes(self, operation: int) -> bool:
        """Return True if the rail is beside an operation or ends there."""
        return self.source < operation <= self.targets[-1]


def lay_out_rails(operations: Sequence[Operation]) -> list[Rail]:
    """Return the rails of a block. Short ones are nearest to the spine, and no two share a column at any height."""
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
    return [Rail(source, targets[source], column) for source, column in columns.items()]


def continues_on_spine(operations: Sequence[Operation], index: int) -> bool:
    """Return True if the operation after `index` takes its result, or if it is the last one."""
    return index + 1 == len(operations) or index in operations[index + 1].inputs

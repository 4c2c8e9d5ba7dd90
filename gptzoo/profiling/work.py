"""The rows of a profile: time and work of each component, and their share of the roofline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from gptzoo.profiling.attribution import Attribution
from gptzoo.profiling.operations import Operation
from gptzoo.profiling.result import LimitsResult, Phase, RowResult, WorkResult
from gptzoo.profiling.scopes import COMPILED_BLOCK, Cost

_NANOSECOND = 1e-9


def result_rows(
    attribution: Attribution, operations: Mapping[Cost, Sequence[Operation]], limits: LimitsResult, steps: int
) -> tuple[RowResult, ...]:
    """Return the rows of `steps` profiled steps, the longest first. `operations` are those of one step."""
    rows = []
    for cost in {*attribution.nanoseconds, *operations}:
        of_row = operations.get(cost, ())
        seconds = attribution.nanoseconds.get(cost, 0) * _NANOSECOND / steps
        is_compiled = cost.component == COMPILED_BLOCK
        least = sum(least_seconds(operation, limits, with_bytes=not is_compiled) for operation in of_row)
        rows.append(
            RowResult.model_validate(
                {
                    "component": cost.component,
                    "phase": cost.phase,
                    "seconds": seconds,
                    "share": attribution.nanoseconds.get(cost, 0) / attribution.window,
                    "flops": sum(operation.flops for operation in of_row),
                    "bytes": None if is_compiled else sum(operation.n_bytes for operation in of_row),
                    "roofline": least / seconds if least and seconds else None,
                }
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.seconds, row.component, row.phase)))


def least_seconds(operation: Operation, limits: LimitsResult, *, with_bytes: bool = True) -> float:
    """Return the time of an operation on the roofline: at the limit of products or of memory, whichever is longer."""
    dtype = str(operation.dtype).removeprefix("torch.")
    products = operation.flops / limits.flops_per_second[dtype] if operation.flops else 0.0
    return max(products, operation.n_bytes / limits.bytes_per_second if with_bytes else 0.0)


def step_work(rows: Sequence[RowResult]) -> tuple[WorkResult, dict[Phase, WorkResult]]:
    """Return the sums of all rows, and of those of each phase."""
    phases: tuple[Phase, ...] = get_args(Phase)
    return _sum(rows), {phase: _sum([row for row in rows if row.phase == phase]) for phase in phases}


def _sum(rows: Sequence[RowResult]) -> WorkResult:
    seconds = sum(row.seconds for row in rows)
    n_bytes = [row.bytes for row in rows]
    least = sum(row.roofline * row.seconds for row in rows if row.roofline is not None)
    return WorkResult(
        seconds=seconds,
        share=sum(row.share for row in rows),
        flops=sum(row.flops for row in rows),
        bytes=None if None in n_bytes else sum(n for n in n_bytes if n is not None),
        roofline=least / seconds if least and seconds else None,
    )

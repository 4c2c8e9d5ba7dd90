"""The result of a profile as a text table."""

from __future__ import annotations

from collections.abc import Sequence

from gptzoo.profiling.result import ProfileResult, WorkResult

_HEADINGS = ("component", "phase", "ms", "share", "GFLOP", "MB", "GFLOP/s", "roofline")
_N_TEXT_COLUMNS = 2
HIGH_OVERHEAD = 1.25
"""Overhead of the profiler above which the table says that small components look longer than they are."""


def format_table(result: ProfileResult) -> str:
    """Return the table by component, the sums by phase, and the conditions of the measurement."""
    rows = [(row.component, row.phase, *_numbers(row)) for row in result.rows]
    sums = [("", phase, *_numbers(work)) for phase, work in result.phases.items()]
    whole = [("step", "", *_numbers(result.step))]
    return "\n".join([*_conditions(result), "", *_align([_HEADINGS, *rows], [*sums, *whole]), "", *_notes(result)])


def _conditions(result: ProfileResult) -> list[str]:
    batch = f"{result.batch_size} x {result.tokens_per_sample} tokens"
    micro = "" if result.micro_batch_size >= result.batch_size else f" in micro-batches of {result.micro_batch_size}"
    rates = ", ".join(f"{rate / 1e9:,.1f} GFLOP/s in {dtype}" for dtype, rate in result.limits.flops_per_second.items())
    code = "compiled" if result.compiled else "eager"
    return [
        f"{result.run}: {result.device}, {result.precision}, {code}, {batch}{micro}",
        f"limits of this machine: {rates or 'no products'}; {result.limits.bytes_per_second / 1e9:,.1f} GB/s",
        f"{result.steps} steps, {1000 * result.step.seconds:,.2f} ms each in the profiler and "
        f"{1000 * result.unprofiled_seconds:,.2f} ms without it (overhead {result.overhead:.2f}x)",
    ]


def _notes(result: ProfileResult) -> list[str]:
    notes = [f"Times are those of the {'GPU' if result.time_of == 'device' else 'main thread'}, per step."]
    if result.time_of == "device":
        notes.append(
            f"The host waits {result.host_waits:.1f} times per step for the GPU, "
            f"{1000 * result.host_wait_seconds:,.2f} ms in all."
        )
    elif not result.device.startswith("cpu"):
        notes.append("The profiler recorded no kernels of the GPU, so most of its time is that of the host's wait.")
    if result.overhead > HIGH_OVERHEAD:
        notes.append("The profiler makes these steps longer: components with many short operations look too long.")
    if result.compiled:
        notes.append("A compiled block is one row. Use --set compile=false for its components.")
    return notes


def _numbers(work: WorkResult) -> tuple[str, ...]:
    rate = f"{work.flops / work.seconds / 1e9:,.1f}" if work.flops and work.seconds else ""
    return (
        f"{1000 * work.seconds:,.3f}",
        f"{work.share:.1%}",
        f"{work.flops / 1e9:,.3f}" if work.flops else "",
        f"{work.bytes / 1e6:,.1f}" if work.bytes else "",
        rate,
        f"{work.roofline:.0%}" if work.roofline is not None else "",
    )


def _align(*blocks: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of all blocks with aligned columns and a line between the blocks."""
    widths = [max(map(len, column)) for column in zip(*(row for block in blocks for row in block), strict=True)]
    lines = []
    for index, block in enumerate(blocks):
        lines += ["-" * (sum(widths) + 2 * len(widths) - 2)] if index else []
        for row in block:
            cells = (
                cell.ljust(width) if column < _N_TEXT_COLUMNS else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join(cells).rstrip())
    return lines

"""How tables and durations look in a terminal and in a log."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_WIDE = 200  # columns of a log, whose lines nobody breaks


def plain_console(*, stderr: bool = False) -> Console:
    """Text as it is, as wide as the terminal, or as a log takes it."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_WIDE)


def plain_table(*columns: str) -> Table:
    """A table without lines; a column whose name begins with > is one of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def duration(seconds: float) -> str:
    """As a person says it: 8 s, 3 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"

"""Tables and durations for terminals and log files."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_LOG_WIDTH = 200  # columns; lines of a log file should not be wrapped


def plain_console(*, stderr: bool = False) -> Console:
    """Create a console without highlighting, as wide as the terminal, or wide enough for a log file."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_LOG_WIDTH)


def plain_table(*columns: str) -> Table:
    """Create a table without lines. A column whose name starts with ">" is right-aligned, for numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def format_duration(seconds: float) -> str:
    """Format a duration for people: 8 s, 3 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"

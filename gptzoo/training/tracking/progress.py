"""Progress displays of a training run: a bar in a terminal or a notebook, lines in a log file.

They write to stderr, except in a notebook, where they are the output of the cell.
"""

from __future__ import annotations

import contextlib
import html
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_DRAWS = 0.5


class Progress(Protocol):
    """Interface of a display of messages and of the latest metrics."""

    def report(self, message: str) -> None: ...
    def show(self, row: Mapping[str, Any]) -> None: ...


class SilentProgress:
    """A display that shows nothing."""

    def report(self, message: str) -> None:
        pass

    def show(self, row: Mapping[str, Any]) -> None:
        pass


class LineProgress:
    """Plain lines: one per evaluation, otherwise one every ten seconds."""

    def __init__(self, n_steps: int, shares: Collection[str] = ()):
        self.n_steps = n_steps
        self.shares = shares
        self.last_shown = time.monotonic()

    def report(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def show(self, row: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if "val/loss" in row or now - self.last_shown >= _SECONDS_BETWEEN_LINES:
            self.last_shown = now
            self.report(f"step {row['step']}/{self.n_steps}  {format_metrics(row, self.shares)}")


class BarProgress:
    """A live bar with the remaining time. A line for each evaluation is printed above it."""

    def __init__(self, bar: RichProgress, n_steps: int, first_step: int, shares: Collection[str] = ()):
        self.bar = bar
        self.shares = shares
        self.n_steps = n_steps
        self.task = bar.add_task("training", total=n_steps, completed=first_step, metrics="")

    def report(self, message: str) -> None:
        self.bar.console.print(message, highlight=False, markup=False)

    def show(self, row: Mapping[str, Any]) -> None:
        self.bar.update(self.task, completed=row["step"], metrics=format_metrics(row, self.shares))
        if "val/loss" in row:
            self.report(f"step {row['step']}/{self.n_steps}  {format_metrics(row, self.shares)}")


class NotebookProgress:
    """The output of a notebook cell: a bar and the evaluations below it, redrawn in place and saved with the notebook.

    It is plain HTML, because rich's live display needs ipywidgets, and their output is not saved.
    """

    def __init__(self, n_steps: int, first_step: int, shares: Collection[str] = ()):
        from IPython.display import display

        self.n_steps = n_steps
        self.shares = shares
        self.step = first_step
        self.metrics = ""
        self.lines: list[str] = []
        self.last_drawn = time.monotonic()
        self.display_handle: Any = display(self, display_id=True)

    def report(self, message: str) -> None:
        self.lines.append(message)
        self._draw()

    def show(self, row: Mapping[str, Any]) -> None:
        self.step, self.metrics = row["step"], format_metrics(row, self.shares)
        if "val/loss" in row:
            self.report(f"step {row['step']}/{self.n_steps}  {self.metrics}")
        elif time.monotonic() - self.last_drawn >= _SECONDS_BETWEEN_DRAWS:
            self._draw()

    def _draw(self) -> None:
        self.last_drawn = time.monotonic()
        self.display_handle.update(self)

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self.step}" max="{self.n_steps}"></progress> {self.step}/{self.n_steps}'
        return f"{bar} {html.escape(self.metrics)}<pre>{html.escape(chr(10).join(self.lines))}</pre>"

    def __repr__(self) -> str:  # for notebooks without HTML
        return "\n".join([*self.lines, f"step {self.step}/{self.n_steps}  {self.metrics}"])


def as_warning(message: str) -> str:
    """Return the line of a log that shows a warning."""
    return f"WARNING: {message}"


def format_metrics(row: Mapping[str, Any], shares: Collection[str] = ()) -> str:
    """Format the main metrics of a row: training loss, validation loss, shares of right answers and speed.

    shares: names of metrics that are shares, such as "accuracy". Those of all levels are shown.
    """
    parts = []
    if "train/loss" in row:
        parts.append(f"loss {row['train/loss']:.4f}")
    if "val/loss" in row:
        parts.append(f"val {row['val/loss']:.4f} ({row['val/bits_per_byte']:.3f} bits/byte)")
    shown = [name for name in row if name.startswith("val/") and name.rpartition("/")[2] in shares]
    parts += [f"{name.removeprefix('val/')} {row[name]:.1%}" for name in shown]
    if "tokens_per_second" in row:
        parts.append(f"{row['tokens_per_second']:,.0f} tokens/s")
    return "  ".join(parts)


@contextlib.contextmanager
def show_progress(
    n_steps: int, first_step: int, *, shares: Collection[str] = (), quiet: bool = False
) -> Iterator[Progress]:
    """Yield a bar in a terminal or a notebook, plain lines in other places, and a silent display if `quiet`.

    shares: names of metrics that are shares of right answers, which are shown in percent.
    """
    if quiet:
        yield SilentProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True)
    if console.is_jupyter:
        yield NotebookProgress(n_steps, first_step, shares)
        return
    if not console.is_terminal:
        yield LineProgress(n_steps, shares)
        return
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[metrics]}"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console) as bar:
        yield BarProgress(bar, n_steps, first_step, shares)

"""What a person sees of a run: a bar in a terminal or a notebook, now and then a line in a log file.

All of it is on stderr but a notebook's, which is the output of its cell.
"""

from __future__ import annotations

import contextlib
import html
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_PICTURES = 0.5


class Progress(Protocol):
    def say(self, message: str) -> None: ...
    def step(self, row: Mapping[str, Any]) -> None: ...


class Silent:
    """For callers who want no output."""

    def say(self, message: str) -> None:
        pass

    def step(self, row: Mapping[str, Any]) -> None:
        pass


class Lines:
    """Plain lines: every evaluation, and else one each ten seconds."""

    def __init__(self, n_steps: int):
        self.n_steps = n_steps
        self.last = time.monotonic()

    def say(self, message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def step(self, row: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if "val/loss" in row or now - self.last >= _SECONDS_BETWEEN_LINES:
            self.last = now
            self.say(f"step {row['step']}/{self.n_steps}  {describe(row)}")


class Bar:
    """A live bar with time left; evaluations stay above it as lines."""

    def __init__(self, bar: Any, n_steps: int, first_step: int):
        self.bar = bar
        self.n_steps = n_steps
        self.task = bar.add_task("training", total=n_steps, completed=first_step, numbers="")

    def say(self, message: str) -> None:
        self.bar.console.print(message, highlight=False, markup=False)

    def step(self, row: Mapping[str, Any]) -> None:
        self.bar.update(self.task, completed=row["step"], numbers=describe(row))
        if "val/loss" in row:
            self.say(f"step {row['step']}/{self.n_steps}  {describe(row)}")


class Notebook:
    """The output of a cell: a bar, and evaluations below it; drawn anew in place, and kept with the notebook.

    Plain HTML, not rich's own live display: that needs ipywidgets, and what widgets show is not saved.
    """

    def __init__(self, n_steps: int, first_step: int):
        from IPython.display import display

        self.n_steps, self.done = n_steps, first_step
        self.numbers, self.lines = "", list[str]()
        self.last = time.monotonic()
        self.shown: Any = display(self, display_id=True)

    def say(self, message: str) -> None:
        self.lines.append(message)
        self._draw()

    def step(self, row: Mapping[str, Any]) -> None:
        self.done, self.numbers = row["step"], describe(row)
        if "val/loss" in row:
            self.say(f"step {row['step']}/{self.n_steps}  {self.numbers}")
        elif time.monotonic() - self.last >= _SECONDS_BETWEEN_PICTURES:
            self._draw()

    def _draw(self) -> None:
        self.last = time.monotonic()
        self.shown.update(self)

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self.done}" max="{self.n_steps}"></progress> {self.done}/{self.n_steps}'
        return f"{bar} {html.escape(self.numbers)}<pre>{html.escape(chr(10).join(self.lines))}</pre>"

    def __repr__(self) -> str:  # where there is no HTML
        return "\n".join([*self.lines, f"step {self.done}/{self.n_steps}  {self.numbers}"])


def describe(row: Mapping[str, Any]) -> str:
    """The numbers of a metrics row that a person follows."""
    parts = []
    if "train/loss" in row:
        parts.append(f"loss {row['train/loss']:.4f}")
    if "val/loss" in row:
        parts.append(f"val {row['val/loss']:.4f} ({row['val/bits_per_byte']:.3f} bits/byte)")
    if "tokens_per_second" in row:
        parts.append(f"{row['tokens_per_second']:,.0f} tokens/s")
    return "  ".join(parts)


@contextlib.contextmanager
def show_progress(n_steps: int, first_step: int, *, quiet: bool = False) -> Iterator[Progress]:
    """A bar where stderr is a terminal or this is a notebook, lines where neither is so; nothing if quiet."""
    if quiet:
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True)
    if console.is_jupyter:
        yield Notebook(n_steps, first_step)
        return
    if not console.is_terminal:
        yield Lines(n_steps)
        return
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console) as bar:
        yield Bar(bar, n_steps, first_step)

"""Lines on stderr that say what takes so long, and how far it is. Only the command line shows them.

The library says what it is doing with `activity`, which costs next to nothing and prints nothing by itself.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from gptzoo.terminal.durations import format_duration

Item = TypeVar("Item")

SECONDS_OF_SILENCE = 2.0  # after which a line is printed
_SECONDS_BETWEEN_LINES = 10.0  # in a terminal; a pipe gets one line for each activity


class Activity:
    """A piece of work that may take long. Assign `done` while it goes on."""

    def __init__(self, text: str, total: int | None = None):
        self.text = text  # what is done: "verifying the checkpoint"
        self.total = total
        self.done = 0
        self.started = time.monotonic()
        self.next_line = SECONDS_OF_SILENCE  # seconds after the start

    def describe(self) -> str:
        """Return what is done, and how far it is: "checking activation:gelu: 3 of 22, 4 s"."""
        progress = "" if self.total is None else f"{self.done} of {self.total}, "
        return f"{self.text}: {progress}{format_duration(time.monotonic() - self.started)}"


class _Monitor:
    """A thread that prints a line about the innermost activity when it has lasted for some time."""

    def __init__(self, *, repeats: bool):
        self.repeats = repeats
        self.activities: list[Activity] = []
        self.changed = threading.Event()
        self.reporting = threading.Lock()
        self.stopped = False
        self.thread = threading.Thread(target=self._run, name="gptzoo activity", daemon=True)

    def _run(self) -> None:
        while not self.stopped:
            current = self.activities[-1:]  # a copy, since the main thread changes the list
            wait = self._report(current[0]) if current else None
            self.changed.wait(wait)
            self.changed.clear()

    def _report(self, activity: Activity) -> float | None:
        """Print the line of an activity if it is time to. Return the seconds until the next line, None without one."""
        with self.reporting:
            left = activity.next_line - (time.monotonic() - activity.started)
            if left > 0:
                return None if left == float("inf") else left
            _write(f"{activity.describe()}\n")
            activity.next_line = activity.next_line + _SECONDS_BETWEEN_LINES if self.repeats else float("inf")
            return _SECONDS_BETWEEN_LINES if self.repeats else None


_monitor: _Monitor | None = None  # None: activities are not shown


@contextlib.contextmanager
def show_activities() -> Iterator[None]:
    """Show the activities of the block on stderr. Of several ranks, only the first one shows its own."""
    global _monitor
    if _monitor is not None or os.environ.get("RANK", "0") != "0":
        yield
        return
    _monitor = _Monitor(repeats=sys.stderr.isatty())
    monitor = _monitor
    monitor.thread.start()
    try:
        yield
    finally:
        if _monitor is monitor:  # not in a process that was forked meanwhile, which has no thread
            _stop(monitor)


def _stop(monitor: _Monitor) -> None:
    global _monitor
    _monitor = None
    monitor.stopped = True
    monitor.changed.set()
    monitor.thread.join()


def _forget_monitor() -> None:
    global _monitor
    _monitor = None


os.register_at_fork(after_in_child=_forget_monitor)  # the parent may have held a lock of the monitor


@contextlib.contextmanager
def activity(text: str, total: int | None = None) -> Iterator[Activity]:
    """Say what the block does. `text` is read alone: "verifying the checkpoint step-00000100".

    total: number of parts, of which `Activity.done` counts those that are done.
    """
    current = Activity(text, total)
    monitor = _monitor
    if monitor is None or threading.current_thread() is not threading.main_thread():
        yield current
        return
    monitor.activities.append(current)
    monitor.changed.set()
    try:
        yield current
    finally:
        if _monitor is monitor:
            monitor.activities.remove(current)
            monitor.changed.set()


def each(items: Iterable[Item], text: str) -> Iterator[Item]:
    """Yield items, and say how many of them are done."""
    items = items if isinstance(items, Sequence) else list(items)
    with activity(text, len(items)) as progress:
        for item in items:
            yield item
            progress.done += 1


def _write(text: str) -> None:
    """Write to stderr without a lock of Python: a process that is forked meanwhile must not inherit a held one."""
    try:
        os.write(sys.stderr.fileno(), text.encode(errors="replace"))
    except (OSError, ValueError, AttributeError):  # a stream without a file, as in tests and notebooks
        with contextlib.suppress(ValueError):
            sys.stderr.write(text)

"""Work of more than two seconds is reported on stderr: once in a pipe, again and again in a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from gptzoo.terminal import activity as module
from gptzoo.terminal.activity import activity, each, show_activities


class Clock:
    """A clock that stands still until a test moves it on, which wakes the monitor."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines that are written while the clock is moved by `wait`."""
    written: list[str] = []
    monkeypatch.setattr(module, "_write", written.append)
    monkeypatch.setattr(module, "SECONDS_OF_SILENCE", 2.0)
    monkeypatch.setattr(module, "time", Clock())
    return written


def wait(seconds: float) -> None:
    """Move the clock on and let the monitor look at it once."""
    module.time.now += seconds  # type: ignore[attr-defined]
    monitor = module._monitor
    assert monitor is not None
    if monitor.activities:
        monitor._report(monitor.activities[-1])


def test_nothing_is_said_within_two_seconds(lines: list[str]) -> None:
    with show_activities(), activity("measuring"):
        wait(1.9)
    assert lines == []


def test_a_pipe_gets_one_line_with_the_progress(lines: list[str]) -> None:
    with show_activities(), activity("measuring 3 variants", 3) as progress:
        wait(1.0)
        progress.done = 2
        wait(1.0)
        wait(60.0)
    assert lines == ["measuring 3 variants: 2 of 3, 2 s\n"]


def test_a_terminal_gets_further_lines(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with show_activities(), activity("compiling"):
        for _ in range(3):
            wait(4.0)
    assert lines == ["compiling: 4 s\n", "compiling: 12 s\n"]


def test_the_innermost_activity_is_reported(lines: list[str]) -> None:
    with show_activities(), activity("building"):
        with activity("hashing"):
            wait(2.0)
        wait(1.0)
    assert lines == ["hashing: 2 s\n", "building: 3 s\n"]


def test_items_are_counted(lines: list[str]) -> None:
    with show_activities():
        for item in each(["a", "b", "c"], "checking"):
            wait(2.0 if item == "c" else 0.0)
    assert lines == ["checking: 2 of 3, 2 s\n"]


def test_a_library_prints_nothing_and_starts_no_thread(lines: list[str]) -> None:
    before = threading.active_count()
    with activity("building") as progress:
        module.time.now += 100  # type: ignore[attr-defined]
        assert progress.describe() == "building: 2 min"
    assert (lines, threading.active_count()) == ([], before)


def test_no_thread_is_left_after_an_error() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), show_activities(), activity("dividing"):
        raise ZeroDivisionError
    assert threading.active_count() == before


@pytest.mark.slow
def test_a_slow_command_says_what_it_does_in_one_line_of_a_pipe() -> None:
    """The plan of an ablation measures its variants, and the command's standard output stays that of a script."""
    command = [sys.executable, "-m", "gptzoo", "ablate", "@positions", "--dry-run", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("measuring the speed of variants")]
    assert " of " in line
    assert done.stdout.startswith("{")

"""What a subject gives the runner: cases, each with sides that do the same work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Side = Callable[[], float | None]
"""One side of a case. A call does the work once; it is timed, or returns a number of its own in the case's unit."""
OURS = "gptzoo"


class Mismatch(Exception):
    """The sides of a case compute different things, so their times cannot be compared."""


@dataclass(frozen=True)
class LeftOut:
    """In place of a case that cannot be measured here: a peer is not installed, or an option is missing."""

    name: str
    reason: str


@dataclass(frozen=True)
class Options:
    """The options of the command that subjects read."""

    device: str = "cpu"
    tiny: bool = False
    """Use tiny sizes, to try the benchmarks. Their times mean nothing."""
    nanogpt: Path | None = None
    """A checkout of nanoGPT, with the data of its example prepared."""
    text: Path | None = None
    """A text file for whole runs, such as tinyshakespeare.txt."""
    pythons: Mapping[str, str] = field(default_factory=dict)
    """The Python of a peer with an environment of its own, by the peer's name."""
    folder: Path = Path()
    """An empty folder for files of this measurement."""


@dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    sides: Mapping[str, Side]
    check: Callable[[], object]
    """Called once, before anything is timed. Raises Mismatch if the sides do not compute the same."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Sizes and options, recorded with the result. Values of another setting are not continued."""
    unit: str = "s"
    """Unit of the values; "s" is timed by the runner. Lower values must be better."""
    base: str = OURS
    """The side that every other one is divided by: "transformers / gptzoo" above 1 means that gptzoo is faster."""
    rounds: int = 15
    untimed: int = 1
    """Untimed calls of a side before each timed one, so that it starts with its own data in the caches."""
    warmup: int = 2
    """Rounds that do not count."""
    wait: Callable[[], object] = lambda: None
    """Waits until the device has done its work."""

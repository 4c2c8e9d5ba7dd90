"""What comes out of a check: one verdict for each property."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Verdict:
    """`passed`, `failed` with a counterexample, or `skipped` with the reason. A pass may carry a note."""

    property: str
    outcome: Literal["passed", "failed", "skipped"]
    text: str = ""

    def __str__(self) -> str:
        word = "FAILED" if self.outcome == "failed" else self.outcome
        return f"{self.property} {word}" + (f": {self.text}" if self.text else "")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Failed(Exception):
    """Raised by a property with the smallest counterexample that it found."""


class Skipped(Exception):
    """Raised by a property that does not apply, with the reason."""

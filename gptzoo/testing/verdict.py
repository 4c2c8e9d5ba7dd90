"""The result of checking one property, and the exceptions by which a property reports it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Verdict:
    """The result of checking one property of a component."""

    property: str
    outcome: Literal["passed", "failed", "skipped"]
    text: str = ""  # the counterexample, the reason for skipping, or a note on a pass

    def __str__(self) -> str:
        outcome = "FAILED" if self.outcome == "failed" else self.outcome
        return f"{self.property} {outcome}" + (f": {self.text}" if self.text else "")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Failed(Exception):
    """Raised by a property when the component violates it. The message is the smallest counterexample found."""


class Skipped(Exception):
    """Raised by a property that does not apply to the component. The message is the reason."""

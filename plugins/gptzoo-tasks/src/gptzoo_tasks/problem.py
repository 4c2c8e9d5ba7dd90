"""The error of options that do not fit together."""

from __future__ import annotations

from pydantic_core import PydanticCustomError


def refuse(reason: str) -> PydanticCustomError:
    """Return an error for a validator to raise, whose message is `reason`."""
    return PydanticCustomError("gptzoo_tasks", "{reason}", {"reason": reason})

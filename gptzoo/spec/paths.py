"""Options that are paths: relative ones are looked up beside the spec file first, then in the current folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo


def look_up(path: str, info: ValidationInfo) -> Path | None:
    """What is there at a path, absolute, or None; `~` is the user's home."""
    wanted = Path(path).expanduser()
    found = next((place for place in (_folder(info) / wanted, Path.cwd() / wanted) if place.exists()), None)
    return None if found is None else found.resolve()


def _find(path: str, info: ValidationInfo) -> str:
    return str(look_up(path, info) or (_folder(info) / Path(path).expanduser()).resolve())


def _folder(info: ValidationInfo) -> Path:
    return (info.context or {}).get("folder", Path.cwd())


PathOption = Annotated[str, Field(min_length=1), AfterValidator(_find)]
"""A path that is absolute once the spec is read."""

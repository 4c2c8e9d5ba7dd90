"""Spec options that are paths. A relative path is relative to the spec file, or else to the current folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo


def resolve_path(path: str, info: ValidationInfo) -> Path | None:
    """Return the absolute path of an existing file or folder, or None. `~` is expanded."""
    expanded = Path(path).expanduser()
    candidates = (_spec_folder(info) / expanded, Path.cwd() / expanded)
    existing = next((candidate for candidate in candidates if candidate.exists()), None)
    return None if existing is None else existing.resolve()


def _make_absolute(path: str, info: ValidationInfo) -> str:
    return str(resolve_path(path, info) or (_spec_folder(info) / Path(path).expanduser()).resolve())


def _spec_folder(info: ValidationInfo) -> Path:
    folder: Path = (info.context or {}).get("folder", Path.cwd())
    return folder


PathOption = Annotated[str, Field(min_length=1), AfterValidator(_make_absolute)]
"""The type of an option that is a path. A relative path is relative to the file of the spec, or else to the current
folder. Its value is absolute once the spec is read, and `~` is expanded."""

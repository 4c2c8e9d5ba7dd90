"""The description of an exception that a component raises."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch


def describe_exception(error: Exception) -> str:
    """Return the type and message of an exception, and the innermost line outside of this kit and of torch."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_internal(f.filename)]
    location = f"\n  at {frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}{location}"


def _is_internal(file: str) -> bool:
    folders = (Path(__file__).parent, Path(torch.__file__).parent)
    return any(folder in Path(file).parents for folder in folders)

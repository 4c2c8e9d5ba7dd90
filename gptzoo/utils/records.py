"""Reading of the JSON files that gptzoo has written, which may have been damaged since."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gptzoo.errors import FolderError


def read_record(file: Path) -> dict[str, Any]:
    """Read a JSON object. Raises FolderError, which names the file, for anything else in it."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FolderError(f"{file}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FolderError(f"{file}: cannot be read: {error}. It was damaged or changed") from None
    if not isinstance(value, dict):
        raise FolderError(f"{file}: expected a JSON object, got {_kind(value)}. It was damaged or changed")
    return value


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")

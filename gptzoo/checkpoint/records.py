"""Reading of the JSON files that gptzoo has written, which may have been damaged since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptzoo.errors import FolderError

_CHECKSUM = "sha256"


def read_record(file: Path) -> dict[str, Any]:
    """Read a JSON object. Raises FolderError, which names the file, for anything else in it."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FolderError(f"{file}: no such file") from None
    except OSError as error:
        raise FolderError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{file}: cannot be read: {error}. It was damaged or changed") from None
    if not isinstance(value, dict):
        raise FolderError(f"{file}: expected a JSON object, got {_kind(value)}. It was damaged or changed")
    return value


def read_text_entry(file: Path, key: str) -> str:
    """Return a text in the JSON object of a file. Raises FolderError, which names the file, if there is none."""
    value = read_record(file).get(key)
    if not isinstance(value, str) or not value:
        raise FolderError(f"{file}: $.{key}: expected a text, got {_kind(value)}. It was damaged or changed")
    return value


def with_checksum(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with the key "sha256": the checksum of its other keys."""
    return {**record, _CHECKSUM: _checksum_of(record)}


def check_sum(record: Mapping[str, Any], file: Path) -> None:
    """Raise FolderError, which names the file, unless a record matches its checksum."""
    contents = {key: value for key, value in record.items() if key != _CHECKSUM}
    if record.get(_CHECKSUM) != _checksum_of(contents):
        raise FolderError(f"{file}: does not match its own checksum. It was damaged or changed")


def _checksum_of(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")

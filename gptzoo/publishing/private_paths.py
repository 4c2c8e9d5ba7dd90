"""Removal of private details from records that leave this machine: folder names and the host."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_FILE_ORIGIN = "file "  # before the path of a plugin file, in the origin of a component

# An absolute path inside a sentence: it is not a part of a URL, a relative path or a fraction. In quotes it may have
# spaces.
_START = r"(?<![\w./\\:~>-])"
_ROOT = r"(?:~?/|[A-Za-z]:[/\\])"
_QUOTED_PATH = re.compile(rf"(?P<quote>['\"`])(?P<path>{_ROOT}[^'\"`\n]*)(?P=quote)")
_BARE_PATH = re.compile(rf"{_START}{_ROOT}[^\s'\"`,;:()\[\]{{}}<>|]+")


def shorten_paths(value: object) -> Any:  # noqa: ANN401  any JSON value
    """Return a JSON value in which every text that is an absolute path is its last part only."""
    if isinstance(value, Mapping):
        return {key: shorten_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shorten_paths(item) for item in value]
    return _shorten(value) if isinstance(value, str) else value


def public_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without folder names and without the name of the host."""
    shortened: dict[str, Any] = shorten_paths({key: value for key, value in record.items() if key != "host"})
    return shortened


def public_json(record: Mapping[str, Any]) -> str:
    """Return a record as JSON without folder names and without the name of the host."""
    return json.dumps(public_record(record), indent=2, ensure_ascii=False) + "\n"


def shorten_paths_in(sentence: str) -> str:
    """Return a sentence, such as an error message, in which every absolute path is its last part only."""
    quoted = _QUOTED_PATH.sub(lambda match: match["quote"] + _shorten(match["path"]) + match["quote"], sentence)
    return _BARE_PATH.sub(lambda match: _shorten(match[0]), quoted)


def _shorten(text: str) -> str:
    if text.startswith(_FILE_ORIGIN):
        return _FILE_ORIGIN + _shorten(text.removeprefix(_FILE_ORIGIN))
    if "\n" in text:
        return text
    is_windows = PureWindowsPath(text).is_absolute()
    if not is_windows and not text.startswith(("/", "~/")):
        return text
    name = (PureWindowsPath(text) if is_windows else PurePosixPath(os.path.normpath(text))).name
    return name or text

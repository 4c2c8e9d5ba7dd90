"""Reading of a file in the format that its name ends with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gptzoo.errors import Problem, SpecError
from gptzoo.spec.formats import json_text, toml_text, yaml_text
from gptzoo.spec.formats.origin import Origin
from gptzoo.spec.strict_json import Json, Location
from gptzoo.strict_model import did_you_mean


@dataclass(frozen=True)
class _Format:
    parse: Callable[[str, str], Json]  # text and its name for error messages
    find_line: Callable[[str, Location], int | None]


_JSON = _Format(json_text.parse, json_text.find_line)
_YAML = _Format(yaml_text.parse, yaml_text.find_line)
_FORMATS = {
    ".json": _JSON,
    ".jsonc": _Format(json_text.parse_jsonc, json_text.find_line),
    ".yaml": _YAML,
    ".yml": _YAML,
    ".toml": _Format(toml_text.parse, toml_text.find_line),
}


def has_spec_suffix(path: Path) -> bool:
    """Return True for the name of a file that can only be a spec, such as `run.yaml`."""
    return path.suffix.lower() in _FORMATS


def read_document(path: Path) -> tuple[Json, Origin]:
    """Read a JSON, YAML or TOML file, and return its value as JSON with its origin. Raises SpecError.

    A file with an unknown suffix is read as JSON.
    """
    text = _read_text(path)
    if text.startswith("\ufeff"):
        raise SpecError([Problem(path.name, "$", "starts with a byte order mark. Save it as UTF-8 without one.")])
    if path.suffix == ".py":
        advice = "A spec is JSON, YAML or TOML. docs/quickstart.md lists the fields for nanoGPT's variables"
        raise SpecError([Problem(path.name, "$", f"is a Python file. {advice}.")])
    known = _FORMATS.get(path.suffix.lower(), _JSON)
    return known.parse(text, path.name), Origin(path.name, find_line=partial(known.find_line, text))


def did_you_mean_path(path: Path) -> str:
    """Return a suggestion such as `"; did you mean 'runs/quickstart'?"` for a missing path, or ""."""
    try:
        siblings = [str(path.with_name(entry.name)) for entry in path.parent.iterdir() if entry.name != path.name]
    except (OSError, ValueError):  # ValueError: a path without a name
        return ""
    return did_you_mean(str(path), siblings)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError([Problem(str(path), "$", "is not UTF-8 text")]) from None
    except IsADirectoryError:
        spec_file = next((path / name for name in ("run.json", "ablation.json") if (path / name).is_file()), None)
        example = f", such as {spec_file}" if spec_file else ""
        raise SpecError([Problem(str(path), "$", f"is a folder. Give the path of a spec file{example}.")]) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = f"cannot be read: {getattr(error, 'strerror', error)}{did_you_mean_path(path)}"
        raise SpecError([Problem(str(path), "$", reason)]) from None

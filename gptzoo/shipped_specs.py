"""The configurations that come with gptzoo: a spec source `@NAME` is the file `configs/*/NAME.json`."""

from __future__ import annotations

import os
from pathlib import Path

from gptzoo.errors import Problem, SpecError
from gptzoo.strict_model import did_you_mean

_PACKAGE = Path(__file__).parent
_PREFIX = "@"


def shipped_specs() -> dict[str, Path]:
    """Return the files of all configurations by name, those of a folder together."""
    in_wheel = _PACKAGE / "configs"
    folder = in_wheel if in_wheel.is_dir() else _PACKAGE.parent / "configs"  # in a clone, beside the package
    return {file.stem: file for file in sorted(folder.glob("*/*.json"))}


def spec_path(source: str | Path) -> Path:
    """Return the path of a spec. `@NAME` is a configuration that comes with gptzoo, unless such a file exists.

    Raises SpecError.
    """
    text = str(source)
    if not text.startswith(_PREFIX) or os.path.exists(text):  # Path.exists raises for a name that is too long
        return Path(source)
    known, name = shipped_specs(), text.removeprefix(_PREFIX)
    if name in known:
        return known[name]
    names_by_folder: dict[str, list[str]] = {}
    for other, file in known.items():
        names_by_folder.setdefault(file.parent.name, []).append(_PREFIX + other)
    hint = did_you_mean(text, [_PREFIX + other for other in known])
    listed = "; ".join(f"{folder}: {', '.join(names)}" for folder, names in names_by_folder.items())
    raise SpecError([Problem(text, "$", f"no configuration named {name!r}{hint}  ({listed})")])

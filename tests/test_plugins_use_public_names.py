"""The packages under plugins/ use only the public names of gptzoo, as other packages must."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gptzoo

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "plugins").glob("*/src/**/*.py"))


def names_of_gptzoo(source: str) -> set[str]:
    """Return the names that a file imports from gptzoo or reads as its attributes, submodules with a dotted name."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("gptzoo.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "gptzoo":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gptzoo."):
            names.add((node.module or "").partition(".")[2])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gptzoo":
            names.add(node.attr)
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT / "plugins")))
def test_a_package_uses_only_public_names(file: Path) -> None:
    assert names_of_gptzoo(file.read_text(encoding="utf-8")) <= {*gptzoo.__all__, "testing"}


def test_every_package_is_checked_and_uses_gptzoo() -> None:
    packages = {path.name for path in (ROOT / "plugins").iterdir() if (path / "pyproject.toml").is_file()}
    users = {file.relative_to(ROOT / "plugins").parts[0] for file in FILES if names_of_gptzoo(file.read_text())}
    assert users == packages


@pytest.mark.parametrize(
    "line",
    [
        "import gptzoo.model",
        "import gptzoo.model.stack as stack",
        "from gptzoo.components import cache",
        "from gptzoo import model",
        "from gptzoo import registry as names",
        "gptzoo.model.build.build({})",
    ],
)
def test_a_submodule_is_not_a_public_name(line: str) -> None:
    assert not names_of_gptzoo(line) <= {*gptzoo.__all__, "testing"}

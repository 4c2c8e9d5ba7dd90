"""gptzoo new-plugin from the command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gptzoo import registry
from gptzoo.cli import main
from gptzoo.scaffold.kinds import TEMPLATES


def new_plugin(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["new-plugin", *map(str, arguments)])


def test_it_prints_the_folder_and_the_next_commands(tmp_path: Path) -> None:
    result = new_plugin("soft-cap", "--kind", "attention", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[0].startswith(f"{tmp_path / 'gptzoo-soft-cap'}: ")
    assert shlex.split(lines[2]) == ["cd", str(tmp_path / "gptzoo-soft-cap")]
    assert "gptzoo check attention:soft_cap" in lines
    assert (tmp_path / "gptzoo-soft-cap" / "pyproject.toml").is_file()


def test_json_has_the_names_files_and_next_commands(tmp_path: Path) -> None:
    result = new_plugin("soft-cap", "--kind", "norm", "--out", tmp_path / "new folder", "--json")
    package = json.loads(result.stdout)
    assert (package["distribution"], package["module"], package["type"]) == (
        "gptzoo-soft-cap",
        "gptzoo_soft_cap",
        "soft_cap",
    )
    folder = Path(package["folder"])
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == set(package["files"])
    assert package["next"][0] == f"cd '{folder}'"


def test_the_default_parent_is_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new_plugin("idea", "--kind", "ffn").exit_code == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["gptzoo-idea"]


def test_the_help_lists_every_kind_with_its_component() -> None:
    text = new_plugin("--help").stdout
    assert all(f"{kind} " in text and template.summary in text for kind, template in TEMPLATES.items())


def test_every_template_is_of_an_existing_kind() -> None:
    assert set(TEMPLATES) <= set(registry.discover("none").kinds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--kind", "atention"], "no kind named 'atention'; did you mean 'attention'?  (templates: activation, "),
        (["x", "--kind", "importer"], "kind 'importer' has no template; "),
        (["Soft_Cap", "--kind", "ffn"], "Try 'soft-cap'."),
        (["sdpa", "--kind", "attention"], "attention 'sdpa' is already registered by"),
        (["x"], "Missing option '--kind'"),
        (["x", "--kind", "ffn", "--out", "/dev/null"], "/dev/null/gptzoo-x: cannot write"),
    ],
)
def test_wrong_input_exits_with_2_and_an_error_message(arguments: list[str], message: str) -> None:
    result = new_plugin(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output

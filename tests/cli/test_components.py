"""gptzoo components from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from support import types_with_defaults

from gptzoo import registry
from gptzoo.cli import main

ALL = [(kind, name) for kind in registry.current().kinds for name in registry.current().of_kind(kind)]
PLUGIN = """
import gptzoo

class Shaped(gptzoo.Activation):
    '''An activation with several options.

    More details.
    '''
    name = "shaped"
    paper = "Nobody 2026"

    class Config(gptzoo.Activation.Config):
        slope: float
        '''Slope at 0.'''
        lanes: list[int] = [1, 2]
        bias: bool | None = gptzoo.inherited("bias", "Add a bias.")

    def forward(self, x):
        return x

@gptzoo.hookimpl
def gptzoo_components():
    return [Shaped]
"""


def gptzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def as_json(*arguments: str | Path) -> Any:
    result = gptzoo("components", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_component_is_listed_with_a_summary_and_a_package() -> None:
    rows = as_json()
    assert [(row["kind"], row["name"]) for row in rows] == ALL
    assert all(row["summary"] and row["origin"] for row in rows)
    text = gptzoo("components").stdout
    assert all(name in text for _, name in ALL)


def test_a_kind_lists_its_components() -> None:
    assert [row["name"] for row in as_json("norm")] == list(registry.current().of_kind("norm"))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_component_is_described_with_all_its_options(kind: str, name: str) -> None:
    description = as_json(kind, name)
    fields = set(registry.current().get(kind, name).Config.model_fields)
    assert {option["name"] for option in description["options"]} == fields - {"type"}
    text = gptzoo("components", kind, name).stdout
    assert all(option["name"] in text for option in description["options"])


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in ALL if name in types_with_defaults(kind)])
def test_the_example_of_a_component_is_valid(kind: str, name: str) -> None:
    example = as_json(kind, name)["example"]
    assert registry.current().get(kind, name).Config.model_validate(example).type == name


def test_options_have_type_default_and_description() -> None:
    options = {option["name"]: option for option in as_json("attention", "sdpa")["options"]}
    assert options["window"]["type"] == "integer > 0 | null"
    assert options["window"]["default"] is None
    assert "before it" in options["window"]["description"]
    assert options["qkv_bias"]["inherits"] == "bias"
    assert "default" not in options["qkv_bias"]
    assert options["qk_norm"]["type"] == "norm_layer | null"
    text = gptzoo("components", "attention", "sdpa").stdout
    assert "model's bias" in text
    assert "FlashAttention" in text
    assert "supports: " in text


def test_the_features_that_a_positional_requires_are_listed() -> None:
    assert as_json("positional", "rope")["requires"] == ["rotate"]


@pytest.mark.usefixtures("fresh_registry")
def test_a_component_of_a_plugin_is_described_like_a_builtin_one(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(PLUGIN)
    description = as_json("activation", "shaped", "--plugin", tmp_path / "theirs.py")
    assert (description["summary"], description["paper"]) == (
        "An activation with several options.",
        "Nobody 2026",
    )
    assert description["documentation"].endswith("More details.")
    assert description["origin"] == f"file {tmp_path / 'theirs.py'}"
    assert description["options"] == [
        {"name": "slope", "type": "number", "description": "Slope at 0."},
        {"name": "lanes", "type": "list of integer", "description": "", "default": [1, 2]},
        {"name": "bias", "type": "boolean", "description": "Add a bias.", "inherits": "bias"},
    ]
    assert description["example"] == {"type": "shaped", "slope": 1, "lanes": [1, 2]}
    assert "required" in gptzoo("components", "activation", "shaped").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["atention"], "did you mean 'attention'?"),
        (["attention", "spda"], "did you mean 'sdpa'?"),
        (["rope"], "it is the name of a component, so give its kind too: positional rope"),
    ],
)
def test_an_unknown_name_exits_with_2_and_a_suggestion(arguments: list[str], message: str) -> None:
    result = gptzoo("components", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def in_a_terminal(*arguments: str, width: int = 80) -> list[str]:
    """Return the lines that a command prints in a terminal, without colours."""
    environment = {"FORCE_COLOR": "1", "COLUMNS": str(width), "TERM": "xterm"}
    result = CliRunner().invoke(main, arguments, env=environment)
    assert result.exit_code == 0, result.output
    return click.unstyle(result.stdout).splitlines()


def summaries() -> list[dict[str, str]]:
    return json.loads(gptzoo("components", "--json").stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize(
    "arguments",
    [
        ["components"],
        ["components", "optimizer", "muon"],
        ["plugins"],
        ["diff", "@gpt2", "@tiny"],
        ["check", "activation:relu", "--only", "shapes"],
    ],
)
def test_no_line_of_a_list_is_wider_than_the_terminal(arguments: list[str], width: int) -> None:
    lines = in_a_terminal(*arguments, width=width)
    example = arguments[:2] == ["components", "optimizer"]  # the last line is JSON to copy
    too_wide = [line for line in (lines[:-1] if example else lines) if len(line) > width]
    assert too_wide == []


def test_a_description_has_most_of_the_width_and_is_complete() -> None:
    text = in_a_terminal("components", "attention")
    (summary,) = [row["summary"] for row in summaries() if row["name"] == "sdpa"]
    assert summary in " ".join(" ".join(text).split())
    assert sum(map(len, text)) / len(text) > 40


def test_in_a_pipe_every_component_is_one_line() -> None:
    rows = summaries()
    header, *lines = gptzoo("components").stdout.splitlines()
    assert header.split() == ["kind", "name", "package", "description"]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line.split()[:2] == [row["kind"], row["name"]]
        assert line.endswith(f"{row['origin']}  {row['summary']}")
    n_plugins = sum(map(len, json.loads(gptzoo("plugins", "--json").stdout).values()))
    assert len(gptzoo("plugins").stdout.splitlines()) == 1 + n_plugins

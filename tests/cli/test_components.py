"""gptzoo components from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def test_columns_stay_readable_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert max(map(len, gptzoo("components", "attention").stdout.splitlines())) > 60
    assert "n_kv_heads" in gptzoo("components", "attention", "sdpa").stdout

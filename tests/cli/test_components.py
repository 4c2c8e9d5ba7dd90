"""gptzoo components, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import plain_types

from gptzoo import registry
from gptzoo.cli import main

ALL = [(kind, name) for kind in registry.current().kinds for name in registry.current().of_kind(kind)]
PLUGIN = """
import gptzoo
from typing import Any

class Shaped(gptzoo.Activation):
    '''An activation with options of every sort.

    And more to say.
    '''
    name = "shaped"
    paper = "Nobody 2026"

    class Config(gptzoo.Activation.Config):
        slope: float
        '''How steep.'''
        lanes: list[int] = [1, 2]
        bias: bool | None = gptzoo.inherited("bias", "Whether to shift.")

    def forward(self, x):
        return x

@gptzoo.hookimpl
def gptzoo_components():
    return [Shaped]
"""


def gptzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def as_data(*arguments: str | Path) -> Any:
    result = gptzoo("components", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_component_is_listed_with_a_line_and_an_origin() -> None:
    rows = as_data()
    assert [(row["kind"], row["name"]) for row in rows] == ALL
    assert all(row["summary"] and row["origin"] for row in rows)
    text = gptzoo("components").stdout
    assert all(name in text for _, name in ALL)


def test_a_kind_lists_its_own() -> None:
    assert [row["name"] for row in as_data("norm")] == list(registry.current().of_kind("norm"))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_all_about_a_component_can_be_printed(kind: str, name: str) -> None:
    one = as_data(kind, name)
    fields = set(registry.current().get(kind, name).Config.model_fields)
    assert {option["name"] for option in one["options"]} == fields - {"type"}
    text = gptzoo("components", kind, name).stdout
    assert all(option["name"] in text for option in one["options"])


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in ALL if name in plain_types(kind)])
def test_the_example_of_a_component_is_valid(kind: str, name: str) -> None:
    example = as_data(kind, name)["example"]
    assert registry.current().get(kind, name).Config.model_validate(example).type == name


def test_options_say_type_default_and_what_they_are_for() -> None:
    options = {option["name"]: option for option in as_data("attention", "sdpa")["options"]}
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


def test_what_a_positional_needs_is_said() -> None:
    assert as_data("positional", "rope")["requires"] == ["rotate"]


@pytest.mark.usefixtures("fresh_registry")
def test_a_component_of_somebody_else_is_described_like_one_of_our_own(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(PLUGIN)
    one = as_data("activation", "shaped", "--plugin", tmp_path / "theirs.py")
    assert (one["summary"], one["paper"]) == ("An activation with options of every sort.", "Nobody 2026")
    assert one["documentation"].endswith("And more to say.")
    assert one["origin"] == f"file {tmp_path / 'theirs.py'}"
    assert one["options"] == [
        {"name": "slope", "type": "number", "description": "How steep."},
        {"name": "lanes", "type": "list of integer", "description": "", "default": [1, 2]},
        {"name": "bias", "type": "boolean", "description": "Whether to shift.", "inherits": "bias"},
    ]
    assert one["example"] == {"type": "shaped", "slope": 1, "lanes": [1, 2]}
    assert "required" in gptzoo("components", "activation", "shaped").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["atention"], "did you mean 'attention'?"),
        (["attention", "spda"], "did you mean 'sdpa'?"),
        (["rope"], "no kind named 'rope', but a component; give its kind too: positional rope"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(arguments: list[str], message: str) -> None:
    result = gptzoo("components", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_in_a_narrow_terminal_no_column_shrinks_to_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert max(map(len, gptzoo("components", "attention").stdout.splitlines())) > 60
    assert "n_kv_heads" in gptzoo("components", "attention", "sdpa").stdout

"""The command `gptzoo schema`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from gptzoo.cli import main
from gptzoo.spec.schema import model_schema, run_schema

PLUGIN = """
import gptzoo

class Squared(gptzoo.Activation):
    '''max(0, x)^2.'''
    name = "squared"

@gptzoo.hookimpl
def gptzoo_components():
    return [Squared]
"""


@pytest.mark.parametrize("arguments", [[], ["model"], ["model", "--json"]])
def test_the_schema_of_models_is_the_default(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["schema", *arguments])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == model_schema()


def test_the_schema_of_runs() -> None:
    assert json.loads(CliRunner().invoke(main, ["schema", "run"]).stdout) == run_schema()


@pytest.mark.parametrize(
    ("spec", "valid"),
    [
        ({"$schema": "sampling.schema.json", "processors": ["top_k", {"type": "temperature", "value": 0.9}]}, True),
        ({"max_new_tokens": 60, "stop_texts": ["The end"], "stop_tokens": [3], "seed": 7}, True),
        ({"processors": [{"type": "top_k", "k": 0}]}, False),
        ({"processors": ["rope"]}, False),
        ({"max_tokens": 3}, False),
    ],
)
def test_the_schema_of_sampling_specs(spec: dict[str, Any], valid: bool) -> None:
    schema = json.loads(CliRunner().invoke(main, ["schema", "sampling"]).stdout)
    assert jsonschema.Draft202012Validator(schema).is_valid(spec) is valid


@pytest.mark.usefixtures("fresh_registry")
def test_a_plugin_from_a_file_is_in_the_schema(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(PLUGIN)
    result = CliRunner().invoke(main, ["schema", "--plugin", str(tmp_path / "theirs.py")])
    assert json.loads(result.stdout)["$defs"]["activation_squared"]["description"] == "max(0, x)^2."


def test_an_unknown_argument_is_rejected() -> None:
    result = CliRunner().invoke(main, ["schema", "corpus"])
    assert result.exit_code == 2
    assert "model" in result.stderr


def test_the_help_imports_neither_torch_nor_rich() -> None:
    source = """
import sys
from gptzoo.cli import main
main(["--help"], standalone_mode=False)
print([name for name in ("torch", "rich", "pydantic") if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in ("build", "components", "plugins", "schema"))
    assert done.stderr.strip() == "[]"

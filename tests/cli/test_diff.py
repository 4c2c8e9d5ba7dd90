"""`gptzoo diff` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import small

import gptzoo as zoo
from gptzoo.cli import main


def gptzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "a.json").write_text(json.dumps(small()))
    return tmp_path / "a.json"


def test_two_files_are_compared_section_by_section(spec: Path) -> None:
    other = spec.with_name("b.json")
    other.write_text(json.dumps(small(ffn="glu", n_layers=3)))
    result = gptzoo("diff", spec, other)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "$.ffn.type mlp glu" in lines
    assert "blocks.*.ffn.up.weight (2 ×) [128, 32] –" in lines
    assert "blocks.*.ffn.gate_up.weight (3 ×) – [170, 32]" in lines
    assert any(line.startswith("forward FLOPs per token") for line in lines)
    assert any("shared tensors are equal" in line for line in lines)


def test_one_file_is_compared_with_a_changed_copy(spec: Path) -> None:
    assert gptzoo("diff", spec).stdout.startswith("no difference")
    assert "$.dropout" in gptzoo("diff", spec, "--set", "dropout=0.1").stdout


def test_json_has_all_differences(spec: Path) -> None:
    diff = json.loads(gptzoo("diff", spec, "--set", "norm.layer=rmsnorm", "--json").stdout)
    assert diff["equal"] is False
    assert {"name": "$.norm.layer.type", "a": "layernorm", "b": "rmsnorm"} in diff["spec"]
    assert {"name": "exit.bias", "a": "[32]", "b": None} in diff["parameters"]
    assert diff["initial_values"]["differ"] == []


def test_model_folders_are_accepted(spec: Path, tmp_path: Path) -> None:
    assert gptzoo("build", spec, "--out", tmp_path / "model").exit_code == 0
    assert gptzoo("diff", spec, tmp_path / "model").stdout.startswith("no difference")


def test_a_run_spec_and_a_model_spec_cannot_be_compared(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"model": small(), "steps": 1}))
    result = gptzoo("diff", spec, tmp_path / "run.json")
    assert result.exit_code == 2
    assert "one is a run spec and the other a model spec" in result.stderr


def test_run_specs_are_compared_with_their_optimizer_options(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"model": small(), "steps": 1}))
    result = gptzoo("diff", tmp_path / "run.json", "--set", "optimizer.lr=0.5")
    n_parameters = len(list(zoo.build(small()).parameters()))
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert any(line.endswith(f"and {n_parameters - 1} more lr=0.001 lr=0.5") for line in lines)


def test_a_missing_file_ends_with_exit_code_2(spec: Path) -> None:
    result = gptzoo("diff", spec, "nothing.json")
    assert result.exit_code == 2
    assert "nothing.json" in result.stderr

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import gptzoo
from gptzoo.checkpoint.checkpoints import newest_valid
from gptzoo.cli import main
from gptzoo.training.run.verify_resume import differences

HIDDEN_STATE = """
import torch
import gptzoo

class Moody(gptzoo.Activation):
    '''Depends on how often it was called in this process, which no checkpoint knows.'''
    name = "moody"
    calls = 0

    def forward(self, x):
        Moody.calls += self.training
        return x.relu() * (1 + 0.01 * Moody.calls)

@gptzoo.hookimpl
def gptzoo_components():
    return [Moody]
"""


@pytest.fixture
def spec(run_spec: dict[str, Any]) -> dict[str, Any]:
    return {**run_spec, "batch_size": 8, "micro_batch_size": 4}


@pytest.fixture
def runs(spec: dict[str, Any], tmp_path: Path) -> tuple[Path, Path]:
    """One run, twice."""
    gptzoo.train(spec, tmp_path / "a", quiet=True)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    return tmp_path / "a", tmp_path / "b"


def last(run: Path) -> Path:
    found = newest_valid(run / "checkpoints")
    assert found is not None
    return found


def change(file: Path, name: str) -> None:
    """Another value for one number of a tensor, in a checkpoint that stays valid."""
    tensors = load_file(file)
    tensors[name].view(-1)[0] += 1
    save_file(tensors, file)
    sign(file.parent)


def sign(checkpoint: Path) -> None:
    """Make the manifest fit what is there now."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (checkpoint / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def test_two_runs_that_are_one_do_not_differ(runs: tuple[Path, Path]) -> None:
    assert list(differences(*runs)) == []


@pytest.mark.parametrize("entry", ["exp_avg", "exp_avg_sq", "step"])
def test_every_item_of_the_optimizer_counts(runs: tuple[Path, Path], entry: str) -> None:
    change(last(runs[1]) / "optimizer.safetensors", f"embed.weight|{entry}")
    assert list(differences(*runs)) == [
        f"optimizer.safetensors: 1 of {len(load_file(last(runs[0]) / 'optimizer.safetensors'))} tensors differ: "
        f"embed.weight|{entry}"
    ]


def test_every_weight_counts(runs: tuple[Path, Path]) -> None:
    for name in load_file(last(runs[0]) / "model.safetensors"):
        shutil.rmtree(runs[1])
        shutil.copytree(*runs)
        change(last(runs[1]) / "model.safetensors", name)
        (told,) = differences(*runs)
        assert told.endswith(f"tensors differ: {name}")


def test_the_step_counts(runs: tuple[Path, Path]) -> None:
    state = last(runs[1]) / "state.json"
    state.write_text(state.read_text().replace('"step": 12', '"step": 11'))
    sign(state.parent)
    assert list(differences(*runs)) == ["state.json is not the same"]


def test_a_missing_checkpoint_counts(runs: tuple[Path, Path]) -> None:
    shutil.rmtree(last(runs[1]))
    assert list(differences(*runs)) == ["the newest checkpoint is step-00000012 of the one, step-00000008 of the other"]


def test_every_metric_counts_but_those_of_the_clock(runs: tuple[Path, Path]) -> None:
    file = runs[1] / "metrics.jsonl"
    original = [json.loads(line) for line in file.read_text().splitlines()]
    for name in original[5]:
        rows = [dict(row) for row in original]
        rows[5][name] += 1e-9 if isinstance(rows[5][name], float) else 1
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert bool(list(differences(*runs))) == (name != "tokens_per_second"), name
    file.write_text("".join(json.dumps(row) + "\n" for row in original[:-1]))
    assert list(differences(*runs)) == ["metrics.jsonl: 13 rows and 12"]


def invoke(*arguments: str | Path | int) -> Any:
    return CliRunner().invoke(main, ["verify-resume", *map(str, arguments)])


@pytest.mark.slow
def test_the_promise_is_proved_for_a_run(spec: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(spec))
    result = invoke(tmp_path / "run.json", "--kills", 2, "--steps", 30, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["holds"] is True
    assert len(found["killed_after"]) == 2
    assert all(step < 30 for step in found["killed_after"])


@pytest.mark.slow
def test_a_plugin_with_hidden_state_is_found_out(spec: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(HIDDEN_STATE)
    spec["model"]["activation"] = "moody"
    (tmp_path / "run.json").write_text(json.dumps(spec))
    result = invoke(tmp_path / "run.json", "--plugin", tmp_path / "moody.py", "--out", tmp_path / "kept")
    assert result.exit_code == 1, result.output
    assert "NOT the same" in result.stdout
    assert "model.safetensors" in result.stdout
    assert torch.isfinite(load_file(last(tmp_path / "kept" / "whole") / "model.safetensors")["embed.weight"]).all()


def test_wrong_input_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    result = invoke(tmp_path / "run.json")
    assert result.exit_code == 2
    assert "$.model" in result.stderr

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
from gptzoo.checkpoint.checkpoints import newest_valid_checkpoint
from gptzoo.cli import main
from gptzoo.training.run.verify_resume import differences

HIDDEN_STATE = """
import torch
import gptzoo

class CallCounter(gptzoo.Activation):
    '''Depends on the number of calls in this process, which no checkpoint stores.'''
    name = "call_counter"
    calls = 0

    def forward(self, x):
        CallCounter.calls += self.training
        return x.relu() * (1 + 0.01 * CallCounter.calls)

@gptzoo.hookimpl
def gptzoo_components():
    return [CallCounter]
"""


@pytest.fixture
def spec(run_spec: dict[str, Any]) -> dict[str, Any]:
    return {**run_spec, "batch_size": 8, "micro_batch_size": 4}


@pytest.fixture
def runs(spec: dict[str, Any], tmp_path: Path) -> tuple[Path, Path]:
    """One run, and a copy of it."""
    gptzoo.train(spec, tmp_path / "a", quiet=True)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    return tmp_path / "a", tmp_path / "b"


def newest_checkpoint(run: Path) -> Path:
    checkpoint = newest_valid_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return checkpoint


def change(file: Path, name: str) -> None:
    """Change one number of a tensor in a checkpoint, and keep the checkpoint valid."""
    tensors = load_file(file)
    tensors[name].view(-1)[0] += 1
    save_file(tensors, file)
    update_manifest(file.parent)


def update_manifest(checkpoint: Path) -> None:
    """Recompute the digests of all files."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (checkpoint / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def test_a_run_and_its_copy_do_not_differ(runs: tuple[Path, Path]) -> None:
    assert list(differences(*runs)) == []


@pytest.mark.parametrize("entry", ["exp_avg", "exp_avg_sq", "step"])
def test_a_change_in_any_entry_of_the_optimizer_is_found(runs: tuple[Path, Path], entry: str) -> None:
    change(newest_checkpoint(runs[1]) / "optimizer.safetensors", f"embed.weight|{entry}")
    n_tensors = len(load_file(newest_checkpoint(runs[0]) / "optimizer.safetensors"))
    assert list(differences(*runs)) == [f"optimizer.safetensors: 1 of {n_tensors} tensors differ: embed.weight|{entry}"]


def test_a_change_in_any_weight_is_found(runs: tuple[Path, Path]) -> None:
    for name in load_file(newest_checkpoint(runs[0]) / "model.safetensors"):
        shutil.rmtree(runs[1])
        shutil.copytree(*runs)
        change(newest_checkpoint(runs[1]) / "model.safetensors", name)
        (difference,) = differences(*runs)
        assert difference.endswith(f"tensors differ: {name}")


def test_a_change_of_the_step_is_found(runs: tuple[Path, Path]) -> None:
    state = newest_checkpoint(runs[1]) / "state.json"
    state.write_text(state.read_text().replace('"step": 12', '"step": 11'))
    update_manifest(state.parent)
    assert list(differences(*runs)) == ["state.json differs"]


def test_a_missing_checkpoint_is_found(runs: tuple[Path, Path]) -> None:
    shutil.rmtree(newest_checkpoint(runs[1]))
    assert list(differences(*runs)) == ["the newest checkpoints are step-00000012 and step-00000008"]


def test_a_change_in_any_metric_but_the_speed_is_found(runs: tuple[Path, Path]) -> None:
    file = runs[1] / "metrics.jsonl"
    original = [json.loads(line) for line in file.read_text().splitlines()]
    for name in original[5]:
        rows = [dict(row) for row in original]
        rows[5][name] += 1e-9 if isinstance(rows[5][name], float) else 1
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert bool(list(differences(*runs))) == (name != "tokens_per_second"), name
    file.write_text("".join(json.dumps(row) + "\n" for row in original[:-1]))
    assert list(differences(*runs)) == ["metrics.jsonl: 13 rows and 12 rows"]


def invoke(*arguments: str | Path | int) -> Any:
    return CliRunner().invoke(main, ["verify-resume", *map(str, arguments)])


@pytest.mark.slow
def test_a_run_is_verified(spec: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(spec))
    result = invoke(tmp_path / "run.json", "--kills", 2, "--steps", 30, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["holds"] is True
    assert len(found["killed_after"]) == 2
    assert all(step < 30 for step in found["killed_after"])


@pytest.mark.slow
def test_a_plugin_with_hidden_state_is_detected(spec: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "call_counter.py").write_text(HIDDEN_STATE)
    spec["model"]["activation"] = "call_counter"
    (tmp_path / "run.json").write_text(json.dumps(spec))
    result = invoke(tmp_path / "run.json", "--plugin", tmp_path / "call_counter.py", "--out", tmp_path / "kept")
    assert result.exit_code == 1, result.output
    assert "NOT the same" in result.stdout
    assert "model.safetensors" in result.stdout
    assert torch.isfinite(
        load_file(newest_checkpoint(tmp_path / "kept" / "whole") / "model.safetensors")["embed.weight"]
    ).all()


def test_wrong_input_is_reported_before_training(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    result = invoke(tmp_path / "run.json")
    assert result.exit_code == 2
    assert "$.model" in result.stderr

"""The command `gptzoo train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gptzoo import registry
from gptzoo.cli import main

SPEC: dict[str, Any] = {
    "spec_version": 1,
    "model": "model.json",
    "corpus": {"type": "text", "path": "text.txt"},
    "tokenizer": "char",
    "batch_size": 8,
    "steps": 6,
    "device": "cpu",
    "eval": {"every": 3},
    "checkpoint": {"every": 3},
    "sample": {"max_new_tokens": 5},
}
MODEL: dict[str, Any] = {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run spec, its model spec and a text file."""
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run.json").write_text(json.dumps(SPEC))
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    (tmp_path / "text.txt").write_text("the cat sat on the mat and the dog sat on the log. " * 30)
    return tmp_path


def gptzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_run_writes_all_files_of_its_folder(folder: Path) -> None:
    result = gptzoo("train", folder / "run.json", "--out", folder / "out")
    assert result.exit_code == 0, result.output
    out = folder / "out"
    assert {path.name for path in out.iterdir()} >= {
        "run.json", "environment.json", "metrics.jsonl", "checkpoints", "sample.txt", "loss.png",
    }  # fmt: skip
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "sample.txt").read_text().rstrip("\n") in result.stdout
    resolved = json.loads((out / "run.json").read_text())
    assert resolved["model"]["vocab_size"] == len(set((folder / "text.txt").read_text()))
    assert resolved["model"]["attention"]["n_kv_heads"] == 2
    checkpoint = out / "checkpoints" / "step-00000006"
    assert {file.name for file in checkpoint.iterdir()} == {
        "model.json", "model.safetensors", "tokenizer.json", "optimizer.safetensors", "state.json", "manifest.json",
    }  # fmt: skip


def test_the_resolved_spec_of_a_run_describes_the_same_run(folder: Path) -> None:
    assert gptzoo("train", folder / "run.json", "--out", folder / "a").exit_code == 0
    assert gptzoo("train", folder / "a" / "run.json", "--out", folder / "b").exit_code == 0
    weights = [folder / run / "checkpoints" / "step-00000006" / "model.safetensors" for run in ("a", "b")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.attention.droput=1"], "model.json: $.attention.droput: 'sdpa' has no option 'droput'"),
        (["stepz=3"], "run.json: $.stepz: no field named 'stepz'; did you mean 'steps'?"),
        (["epochs=1"], "run.json: $.epochs: steps sets the length of the run already"),
        (["corpus.path=nowhere.txt"], "nowhere.txt: no such file or folder"),
        (["model=nowhere.json"], "run.json: $.model: no model spec at 'nowhere.json'"),
        (["model.context_length=100000"], "or a shorter context"),
        (["device=cuda:7"], "cuda"),
        (["micro_batch_size=3"], "run.json: $.micro_batch_size: must divide batch_size 8, got 3"),
        (["sample.prompt=Ω"], "tokenizer 'char' has no token for 'Ω'"),
        (["seed"], "expected path.to.option=value"),
    ],
)
def test_wrong_input_is_reported_with_its_place_and_leaves_no_files(
    folder: Path, overrides: list[str], message: str
) -> None:
    arguments = [argument for override in overrides for argument in ("--set", override)]
    result = gptzoo("train", folder / "run.json", "--out", folder / "out", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (folder / "out" / "run.json").exists()


def test_a_folder_can_be_used_after_wrong_input_is_corrected(folder: Path) -> None:
    refused = gptzoo("train", folder / "run.json", "--out", folder / "out", "--set", "corpus.path=nowhere.txt")
    assert refused.exit_code == 2
    assert gptzoo("train", folder / "run.json", "--out", folder / "out").exit_code == 0


def test_resume_without_a_checkpoint_starts_at_step_0(folder: Path) -> None:
    result = gptzoo("train", folder / "run.json", "--out", folder / "out", "--resume")
    assert result.exit_code == 0, result.output
    assert len((folder / "out" / "metrics.jsonl").read_text().splitlines()) == 7


def test_a_folder_with_other_files_is_rejected(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("x")
    result = gptzoo("train", folder / "run.json", "--out", folder / "out")
    assert result.exit_code == 2
    assert "has files that are not a run. Choose another --out" in result.stderr


def test_a_component_from_a_local_file_trains_and_samples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "my_part.py").write_text(
        "import gptzoo\n"
        "class Cube(gptzoo.Activation):\n"
        "    '''x cubed, clipped.'''\n"
        "    name = 'test_cube'\n"
        "    def forward(self, x):\n"
        "        return x.clamp(-2, 2) ** 3\n"
        "@gptzoo.hookimpl\n"
        "def gptzoo_components():\n"
        "    return [Cube]\n"
    )
    train = ("train", "run.json", "--out", "out", "--set", "model.activation=test_cube")
    sample = ("sample", "out", "--prompt", "the", "--max-new-tokens", "3")

    def gptzoo_in_new_process(*arguments: str) -> Result:
        with registry.use(registry.discover("none")):  # without the plugins that were loaded before
            return gptzoo(*arguments)

    refused = gptzoo_in_new_process(*train)
    assert refused.exit_code == 2
    assert "model.json: $.activation: no activation named 'test_cube'" in refused.stderr
    result = gptzoo_in_new_process(*train, "--plugin", "my_part.py")
    assert result.exit_code == 0, result.output
    assert gptzoo_in_new_process(*sample).exit_code == 2
    assert gptzoo_in_new_process(*sample, "--plugin", "my_part.py").exit_code == 0


def test_bf16_is_rejected_on_a_processor_without_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from gptzoo.training.hardware import device

    arguments = ("train", folder / "run.json", "--out", folder / "out", "--set", "precision=bf16")
    with monkeypatch.context() as patch:
        patch.setattr(device, "_has_bf16", lambda device: False)
        result = gptzoo(*arguments)
        assert result.exit_code == 2
        assert "has no bf16 arithmetic. Use fp32" in result.stderr
    if not device._has_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bf16 arithmetic")
    assert gptzoo(*arguments).exit_code == 0
    losses = [json.loads(row)["val/loss"] for row in (folder / "out" / "metrics.jsonl").read_text().splitlines()[::3]]
    assert losses[-1] < losses[0]


def test_a_run_pauses_at_a_step_and_resumes(folder: Path) -> None:
    out = folder / "out"
    paused = gptzoo("train", folder / "run.json", "--out", out, "--until", "4")
    assert (paused.exit_code, paused.stdout) == (0, "")
    assert "paused after 4 steps. Continue with --resume" in paused.stderr
    assert not (out / "sample.txt").exists()
    result = gptzoo("train", folder / "run.json", "--out", out, "--resume")
    assert "6 steps, val/loss" in result.stderr
    assert (out / "sample.txt").exists()
    assert gptzoo("train", folder / "run.json", "--out", folder / "other", "--until", "0").exit_code == 2

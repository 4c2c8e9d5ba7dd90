"""The folder of a run: which runs may use it, what may change on resume, and its status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import before_step, overflow_at, rows
from safetensors.torch import load_file

import gptzoo
from gptzoo.checkpoint.checkpoints import newest_valid_checkpoint
from gptzoo.errors import Diverged, FolderError


def status(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text())


def test_a_folder_with_other_files_or_a_run_is_rejected_and_not_changed(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "thesis.txt").write_text("the only copy")
    with pytest.raises(FolderError, match=r"has files that are not a run\. Choose another --out"):
        gptzoo.train(run_spec, run, quiet=True)
    assert [file.name for file in run.iterdir()] == ["thesis.txt"]
    with pytest.raises(FolderError, match=r"thesis\.txt: is a file\. Choose another --out"):
        gptzoo.train(run_spec, run / "thesis.txt", quiet=True)
    (run / "run.json").write_text("{}")
    with pytest.raises(FolderError, match=r"already has a run\. Continue it with --resume"):
        gptzoo.train(run_spec, run, quiet=True)


def test_resuming_with_another_spec_is_rejected_with_the_changed_fields(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    before = rows(tmp_path / "run")
    changed = {**run_spec, "optimizer": {"type": "adamw", "lr": 0.02}}
    with pytest.raises(FolderError, match=r"\$\.optimizer\.lr was 0\.01, is 0\.02"):
        gptzoo.train(changed, tmp_path / "run", resume=True, quiet=True)
    assert rows(tmp_path / "run") == before


def test_a_longer_run_needs_extend(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["schedule"] = "constant"  # so that the first steps do not depend on the length
    gptzoo.train({**run_spec, "steps": 12}, tmp_path / "run", quiet=True)
    longer = {**run_spec, "steps": 15}
    with pytest.raises(FolderError, match=r"\$\.steps was 12, is 15\. Use --extend to change its length"):
        gptzoo.train(longer, tmp_path / "run", resume=True, quiet=True)
    with pytest.raises(
        FolderError, match=r"its run has another spec.*\$\.seed was 1, is 2\. Use --override to continue"
    ):
        gptzoo.train({**longer, "seed": 2}, tmp_path / "run", extend=True, quiet=True)
    gptzoo.train(longer, tmp_path / "run", extend=True, quiet=True)
    gptzoo.train(longer, tmp_path / "run", resume=True, quiet=True)  # run.json has the new spec now
    gptzoo.train(longer, tmp_path / "unbroken", quiet=True)
    checkpoints = (newest_valid_checkpoint(tmp_path / run / "checkpoints") for run in ("run", "unbroken"))
    last = [load_file(checkpoint / "model.safetensors") for checkpoint in checkpoints if checkpoint is not None]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])
    assert len(rows(tmp_path / "run")) == 16


def test_a_run_cannot_become_shorter_than_its_steps_so_far(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    with pytest.raises(FolderError, match="has already done 12 steps, more than 10"):
        gptzoo.train({**run_spec, "steps": 10}, tmp_path / "run", extend=True, quiet=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 12


def test_resuming_with_changed_data_is_rejected(run_spec: dict[str, Any], text_file: Path, tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    text_file.write_text(text_file.read_text().replace("cat", "cow", 1))
    with pytest.raises(FolderError, match="data"):
        gptzoo.train(run_spec, tmp_path / "run", resume=True, quiet=True)


def test_a_second_process_is_rejected_while_the_first_trains(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def start_second(trainer: Any) -> None:
        if trainer.train_state.step == 2 and not attempts:
            code = (
                "import gptzoo, json, sys; gptzoo.train(json.loads(sys.argv[1]), sys.argv[2], resume=True, quiet=True)"
            )
            command = [sys.executable, "-c", code, json.dumps(run_spec), str(tmp_path / "run")]
            attempts.append(subprocess.run(command, capture_output=True, text=True))

    before_step(monkeypatch, start_second)
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    assert attempts[0].returncode != 0
    assert "another process is training in this folder" in attempts[0].stderr


def test_another_batch_size_and_learning_rate_need_override(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    changed = {**run_spec, "batch_size": 32, "optimizer": {"type": "adamw", "lr": 0.005}, "steps": 14}
    with pytest.raises(FolderError, match=r"batch_size was 64, is 32.*Use --override to continue"):
        gptzoo.train(changed, tmp_path / "run", extend=True, quiet=True)
    gptzoo.train(changed, tmp_path / "run", override=True, quiet=True)
    gptzoo.train(changed, tmp_path / "run", resume=True, quiet=True)  # run.json has the new spec now
    table = rows(tmp_path / "run")
    assert [row["tokens"] // 16 for row in table[11:]] == [64 * 11, 64 * 12, 64 * 12 + 32, 64 * 12 + 64]
    recorded = json.loads((tmp_path / "run" / "changes.jsonl").read_text())
    assert recorded["step"] == 12
    assert "$.batch_size was 64, is 32" in recorded["changes"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["batch_size"] == 32


def test_other_data_needs_override(run_spec: dict[str, Any], text_file: Path, tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    text_file.write_text(text_file.read_text().replace("cat", "cow", 1))
    longer = {**run_spec, "steps": 14}
    with pytest.raises(FolderError, match="the training data has changed since this run started"):
        gptzoo.train(longer, tmp_path / "run", extend=True, quiet=True)
    gptzoo.train(longer, tmp_path / "run", override=True, quiet=True)
    gptzoo.train(longer, tmp_path / "run", resume=True, quiet=True)
    assert "the training data has changed" in json.loads((tmp_path / "run" / "changes.jsonl").read_text())["changes"]


def test_the_folder_has_the_status_of_its_run(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = []
    before_step(monkeypatch, lambda trainer: statuses.append(status(trainer.folder.path)["status"]))
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    assert set(statuses) == {"running"}
    assert status(tmp_path / "run") == {"status": "done"}
    with pytest.raises(FolderError):  # rejected, so the status does not change
        gptzoo.train({**run_spec, "seed": 9}, tmp_path / "run", resume=True, quiet=True)
    assert status(tmp_path / "run") == {"status": "done"}
    overflow_at(monkeypatch, 2)
    with pytest.raises(Diverged):
        gptzoo.train(run_spec, tmp_path / "diverged", quiet=True)
    assert status(tmp_path / "diverged")["status"] == "diverged"
    assert "gradient norm of step 3 is inf" in status(tmp_path / "diverged")["reason"]

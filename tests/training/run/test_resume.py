"""A run that was killed at any time and resumed is bitwise the same as one that was not."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import Forks
from runs import Killed, assert_same_run, die_at, overflow_at, rows
from safetensors.torch import load_file, save_file

import gptzoo
from gptzoo.checkpoint.checkpoints import _digests, newest_valid_checkpoint
from gptzoo.errors import Diverged
from gptzoo.training import micro_batch_size as fit
from gptzoo.training.run.train_state import TrainState
from gptzoo.training.run.verify_resume import differences
from gptzoo.utils.atomic import write_json

STEPS = 18  # three epochs


@pytest.fixture
def run_spec(run_spec: dict[str, Any]) -> dict[str, Any]:
    """A run with every option that has state: dropout, accumulation, EMA, auxiliary losses, early stopping."""
    return {
        **run_spec,
        "steps": STEPS,
        "ema_decay": 0.9,
        "z_loss": 1e-3,
        "label_smoothing": 0.1,
        "early_stopping": {"patience": 50},
        "skip_non_finite": 2,
    }


def train_and_kill(spec: dict[str, Any], run: Path, at: int) -> None:
    """Train until the training step after step `at` begins, and die there."""
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, at)
        with pytest.raises(Killed):
            gptzoo.train(spec, run, resume=True, quiet=True)


@pytest.mark.parametrize("at", [0, 3, 4, 5, STEPS - 1])
def test_a_killed_run_resumes_to_bitwise_the_same_end(run_spec: dict[str, Any], tmp_path: Path, at: int) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    train_and_kill(run_spec, tmp_path / "killed", at)
    torch.rand(7)  # the global generator may change in between
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_paused_run_resumes_to_bitwise_the_same_end(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    for until in (1, 7, 7, 5, STEPS + 1):  # the third and fourth have nothing to do
        result = gptzoo.train(run_spec, tmp_path / "paused", resume=True, until=until, quiet=True)
        status = json.loads((tmp_path / "paused" / "status.json").read_text())["status"]
        expected = (STEPS, "done") if until > STEPS else (max(until, 7) if until > 1 else 1, "paused")
        assert (result.steps, status, result.paused) == (*expected, until <= STEPS)
        assert rows(tmp_path / "paused")[-1]["step"] == result.steps
    assert_same_run(tmp_path / "whole", tmp_path / "paused")


def test_a_run_killed_before_a_pause_is_bitwise_the_same_at_the_pause_and_at_the_end(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    gptzoo.train(run_spec, tmp_path / "killed", until=3, quiet=True)
    train_and_kill(run_spec, tmp_path / "killed", 6)
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, until=7, quiet=True)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")[:8]
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_run_cannot_pause_before_its_first_step(run_spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(gptzoo.InputError, match="expected a step of at least 1, got 0"):
        gptzoo.train(run_spec, tmp_path / "run", until=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_killed_at_any_step_resumes_to_bitwise_the_same_end(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    for at in range(STEPS):
        train_and_kill(run_spec, tmp_path / f"{at}", at)
        gptzoo.train(run_spec, tmp_path / f"{at}", resume=True, quiet=True)
        assert_same_run(tmp_path / "whole", tmp_path / f"{at}")


@pytest.mark.slow
def test_a_run_can_be_killed_and_resumed_many_times(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["checkpoint"] = {"every": 1}
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    for at in range(STEPS):
        train_and_kill(run_spec, tmp_path / "killed", at)
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_an_fp16_run_restores_its_loss_scale(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["precision"] = "fp16"
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    train_and_kill(run_spec, tmp_path / "killed", 9)
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert rows(tmp_path / "whole")[-1]["loss_scale"] == 2.0**16


def test_resuming_a_finished_run_changes_nothing(run_spec: dict[str, Any], tmp_path: Path) -> None:
    first = gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    again = gptzoo.train(run_spec, tmp_path / "run", resume=True, quiet=True)
    assert again == first
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_run_resumes_from_the_checkpoint_before_a_damaged_one(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    gptzoo.train(run_spec, tmp_path / "damaged", quiet=True)
    weights = tmp_path / "damaged" / "checkpoints" / f"step-{STEPS:08d}" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    gptzoo.train(run_spec, tmp_path / "damaged", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "damaged")


# ---------------------------------------------------------------------- every item of state matters


ITEMS = [
    *(
        field.name for field in dataclasses.fields(TrainState) if field.name != "skipped_in_a_row"
    ),  # has a test of its own below
    "model",
    "averages",
    "|exp_avg",
    "|exp_avg_sq",
    "|step",
    "loss_scale",
]


def test_the_items_below_are_everything_in_a_checkpoint(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train({**run_spec, "steps": 2, "precision": "fp16"}, tmp_path / "run", quiet=True)
    checkpoint = newest_valid_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    state = json.loads((checkpoint / "state.json").read_text())
    assert state.pop("optimizer_scalars") == {}
    entries = {f"|{name.partition('|')[2]}" for name in load_file(checkpoint / "optimizer.safetensors")}
    files = {file.stem for file in checkpoint.glob("*.safetensors")} - {"optimizer"}
    assert {*state.pop("standing"), *state, *entries, *files} == {*ITEMS, "skipped_in_a_row"}


def reset_item(checkpoint: Path, item: str) -> None:
    """Reset one item of state in a checkpoint, and keep the checkpoint valid."""
    state = json.loads((checkpoint / "state.json").read_text())
    if item in state["standing"]:
        state["standing"][item] = getattr(TrainState(), item)
    elif item == "loss_scale":
        state["loss_scale"]["value"] = 2.0
    elif item == "averages":
        shutil.copyfile(checkpoint / "model.safetensors", checkpoint / "averages.safetensors")
    else:
        file = checkpoint / ("model.safetensors" if item == "model" else "optimizer.safetensors")
        save_file(
            {name: t * 0 if item == "model" or name.endswith(item) else t for name, t in load_file(file).items()}, file
        )
    write_json(checkpoint / "state.json", state)
    (checkpoint / "manifest.json").unlink()
    write_json(checkpoint / "manifest.json", {"files": _digests(checkpoint)})


@pytest.mark.slow
@pytest.mark.parametrize("item", ITEMS)
def test_a_lost_item_of_state_changes_the_run(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: str
) -> None:
    """A negative control: the tests above can fail for each item."""
    overflow_at(monkeypatch, 2)
    run_spec["early_stopping"] = {"patience": 50, "min_delta": 100.0}  # the first evaluation stays the best
    if item == "loss_scale":
        run_spec["precision"] = "fp16"
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    train_and_kill(run_spec, tmp_path / "killed", 9)
    checkpoint = newest_valid_checkpoint(tmp_path / "killed" / "checkpoints")
    assert checkpoint is not None
    reset_item(checkpoint, item)
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert list(differences(tmp_path / "whole", tmp_path / "killed"))


def test_a_lost_automatic_micro_batch_size_changes_the_run(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_spec["micro_batch_size"] = "auto"
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    train_and_kill(run_spec, tmp_path / "killed", 9)
    environment = json.loads((tmp_path / "killed" / "environment.json").read_text())
    assert environment.pop("micro_batch_size") == 64
    write_json(tmp_path / "killed" / "environment.json", environment)
    monkeypatch.setattr(fit, "available_bytes", lambda device: 2**22)  # less memory than at the start
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert list(differences(tmp_path / "whole", tmp_path / "killed"))


def test_skipped_updates_in_a_row_are_counted_across_a_kill(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_spec["checkpoint"] = {"every": 4}
    overflow_at(monkeypatch, 2, 3, 4)
    for run, at in (("whole", None), ("killed", 4)):  # the checkpoint is after the second of three
        if at is not None:
            train_and_kill(run_spec, tmp_path / run, at)
        with pytest.raises(Diverged, match="gradient norm of step 5 is inf"):
            gptzoo.train(run_spec, tmp_path / run, resume=True, quiet=True)


# ---------------------------------------------------------------------- processes killed with SIGKILL


@pytest.mark.slow
def test_a_run_killed_at_random_times_ends_bitwise_the_same(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """Thirty SIGKILLs while a process starts, resumes, trains, evaluates or saves, then a run to the end."""
    run_spec |= {"steps": 1500, "checkpoint": {"every": 8}, "eval": {"every": 20}}
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    run = tmp_path / "killed"
    rng = random.Random(0)
    steps_reached = []
    with Forks(tmp_path / "log") as forks:
        for kill in range(30):
            child = forks.start("train", run_spec, str(run))
            # Most kills come while it trains, some while it starts; they are timed by its files, not by the clock.
            for _ in range(rng.randrange(1, 25) if kill % 4 else 0):
                before = modified(run / "metrics.jsonl")
                while modified(run / "metrics.jsonl") == before and not forks.log.read_text():
                    time.sleep(0.002)
            time.sleep(rng.uniform(0.0, 0.05 if kill % 4 else 0.3))
            os.kill(child, signal.SIGKILL)
            assert forks.wait() == -signal.SIGKILL, forks.log.read_text()
            steps_reached.append(len(rows(run)) if (run / "metrics.jsonl").exists() else 0)
        assert 0 < max(steps_reached) < 1500
        assert len(set(steps_reached)) > 10
        assert forks.call("train", run_spec, str(run)) == 0, forks.log.read_text()
    assert_same_run(tmp_path / "whole", run)


@pytest.mark.slow
def test_a_run_killed_at_any_file_operation_ends_bitwise_the_same(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """A kill at each open, write, sync, rename and removal of a run with three checkpoints."""
    run_spec |= {"steps": 3, "batch_size": 8, "micro_batch_size": 4, "eval": {"every": 2}, "checkpoint": {"every": 1}}
    whole = tmp_path / "whole"
    gptzoo.train(run_spec, whole, quiet=True)
    kills = 0
    with Forks(tmp_path / "log") as forks:
        for at in range(1, 10**4):
            run = tmp_path / str(at)
            code = forks.call("train", run_spec, str(run), {"at": at})
            if code == 0:
                break
            assert code == -signal.SIGKILL, forks.log.read_text()
            kills += 1
            assert forks.call("train", run_spec, str(run)) == 0, forks.log.read_text()
            assert_same_run(whole, run)
            assert not list(run.rglob(".incomplete-*"))
            shutil.rmtree(run)
    assert kills > 80


def modified(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0

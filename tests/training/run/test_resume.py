"""The promise: a run that was killed at any instant, and resumed, is bitwise the run that never was."""

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
from gptzoo.checkpoint.checkpoints import _digests, newest_valid
from gptzoo.errors import Diverged
from gptzoo.training.run.train_state import TrainState
from gptzoo.training.run.verify_resume import differences
from gptzoo.training import micro_batch_size as fit
from gptzoo.utils.atomic import write_json

STEPS = 18  # three epochs


@pytest.fixture
def run_spec(run_spec: dict[str, Any]) -> dict[str, Any]:
    """A run with everything on that has a state: dropout, accumulation, averages, losses beside the loss, patience."""
    return {
        **run_spec,
        "steps": STEPS,
        "ema_decay": 0.9,
        "z_loss": 1e-3,
        "label_smoothing": 0.1,
        "early_stopping": {"patience": 50},
        "skip_non_finite": 2,
    }


def killed(spec: dict[str, Any], run: Path, at: int) -> None:
    """Train until the update after step `at`, and die."""
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, at)
        with pytest.raises(Killed):
            gptzoo.train(spec, run, resume=True, quiet=True)


@pytest.mark.parametrize("at", [0, 3, 4, 5, STEPS - 1])
def test_a_killed_run_resumes_to_bitwise_the_same_end(run_spec: dict[str, Any], tmp_path: Path, at: int) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    killed(run_spec, tmp_path / "killed", at)
    torch.rand(7)  # whatever happens to the global generator in between does not matter
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_run_that_pauses_resumes_to_bitwise_the_same_end(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    for until in (1, 7, 7, 5, STEPS + 1):  # the third has nothing to do, and the fourth is behind already
        result = gptzoo.train(run_spec, tmp_path / "paused", resume=True, until=until, quiet=True)
        status = json.loads((tmp_path / "paused" / "status.json").read_text())["status"]
        expected = (STEPS, "done") if until > STEPS else (max(until, 7) if until > 1 else 1, "paused")
        assert (result.steps, status, result.paused) == (*expected, until <= STEPS)
        assert rows(tmp_path / "paused")[-1]["step"] == result.steps
    assert_same_run(tmp_path / "whole", tmp_path / "paused")


def test_a_run_killed_on_its_way_to_a_pause_is_bitwise_the_same_there_and_at_the_end(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    gptzoo.train(run_spec, tmp_path / "killed", until=3, quiet=True)
    killed(run_spec, tmp_path / "killed", 6)
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, until=7, quiet=True)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")[:8]
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_run_cannot_pause_before_its_first_step(run_spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(gptzoo.InputError, match="1 at the least, not 0"):
        gptzoo.train(run_spec, tmp_path / "run", until=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_it_does_wherever_it_is_killed(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    for at in range(STEPS):
        killed(run_spec, tmp_path / f"{at}", at)
        gptzoo.train(run_spec, tmp_path / f"{at}", resume=True, quiet=True)
        assert_same_run(tmp_path / "whole", tmp_path / f"{at}")


@pytest.mark.slow
def test_a_resumed_run_can_be_killed_and_resumed_again_and_again(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["checkpoint"] = {"every": 1}
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    for at in range(STEPS):
        killed(run_spec, tmp_path / "killed", at)
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_run_in_fp16_keeps_the_scale_of_its_loss(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["precision"] = "fp16"
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    killed(run_spec, tmp_path / "killed", 9)
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert rows(tmp_path / "whole")[-1]["loss_scale"] == 2.0**16


# ---------------------------------------------------------------------- each item of state counts


ITEMS = [
    *(
        field.name for field in dataclasses.fields(TrainState) if field.name != "skipped_in_a_row"
    ),  # it has a test below
    "model",
    "averages",
    "|exp_avg",
    "|exp_avg_sq",
    "|step",
    "loss_scale",
]


def test_no_item_is_forgotten(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """What a checkpoint keeps is what is taken out of it, item by item, in the test after this one."""
    gptzoo.train({**run_spec, "steps": 2, "precision": "fp16"}, tmp_path / "run", quiet=True)
    checkpoint = newest_valid(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    state = json.loads((checkpoint / "state.json").read_text())
    assert state.pop("optimizer_scalars") == {}
    entries = {f"|{name.partition('|')[2]}" for name in load_file(checkpoint / "optimizer.safetensors")}
    files = {file.stem for file in checkpoint.glob("*.safetensors")} - {"optimizer"}
    assert {*state.pop("standing"), *state, *entries, *files} == {*ITEMS, "skipped_in_a_row"}


def tamper(checkpoint: Path, item: str) -> None:
    """Take one item of state out of a checkpoint, or make it as if it had never been kept; it stays valid."""
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


@pytest.mark.parametrize("item", ITEMS)
def test_a_run_that_lost_an_item_of_its_state_would_be_noticed(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: str
) -> None:
    """The negative controls of the tests above: each can fail, for each item."""
    overflow_at(monkeypatch, 2)
    run_spec["early_stopping"] = {"patience": 50, "min_delta": 100.0}  # so that the first evaluation stays the best
    if item == "loss_scale":
        run_spec["precision"] = "fp16"
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    killed(run_spec, tmp_path / "killed", 9)
    checkpoint = newest_valid(tmp_path / "killed" / "checkpoints")
    assert checkpoint is not None
    tamper(checkpoint, item)
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert list(differences(tmp_path / "whole", tmp_path / "killed"))


def test_a_run_that_lost_the_micro_batch_size_it_picked_would_be_noticed(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_spec["micro_batch_size"] = "auto"
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    killed(run_spec, tmp_path / "killed", 9)
    environment = json.loads((tmp_path / "killed" / "environment.json").read_text())
    assert environment.pop("micro_batch_size") == 64
    write_json(tmp_path / "killed" / "environment.json", environment)
    monkeypatch.setattr(fit, "available_bytes", lambda device: 2**22)  # other work has come to the machine
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert list(differences(tmp_path / "whole", tmp_path / "killed"))


def test_updates_left_out_in_a_row_are_counted_across_a_kill(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_spec["checkpoint"] = {"every": 4}
    overflow_at(monkeypatch, 2, 3, 4)
    for run, at in (("whole", None), ("killed", 4)):  # the checkpoint is after the second of three
        if at is not None:
            killed(run_spec, tmp_path / run, at)
        with pytest.raises(Diverged, match="gradient norm of step 5 is inf"):
            gptzoo.train(run_spec, tmp_path / run, resume=True, quiet=True)


# ---------------------------------------------------------------------- real deaths of real processes


@pytest.mark.slow
def test_a_run_killed_at_random_times_ends_as_if_it_never_was(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """Thirty SIGKILLs, while a process starts, resumes, trains, evaluates or saves; then it runs to its end."""
    run_spec |= {"steps": 1500, "checkpoint": {"every": 8}, "eval": {"every": 20}}
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    run = tmp_path / "killed"
    rng = random.Random(0)
    reached = []
    with Forks(tmp_path / "log") as forks:
        for kill in range(30):
            child = forks.start("train", run_spec, str(run))
            # Most while it trains, some while it starts; by what it has written, however slow the machine is.
            for _ in range(rng.randrange(1, 25) if kill % 4 else 0):
                before = modified(run / "metrics.jsonl")
                while modified(run / "metrics.jsonl") == before and not forks.log.read_text():
                    time.sleep(0.002)
            time.sleep(rng.uniform(0.0, 0.05 if kill % 4 else 0.3))
            os.kill(child, signal.SIGKILL)
            assert forks.wait() == -signal.SIGKILL, forks.log.read_text()
            reached.append(len(rows(run)) if (run / "metrics.jsonl").exists() else 0)
        assert 0 < max(reached) < 1500
        assert len(set(reached)) > 10
        assert forks.call("train", run_spec, str(run)) == 0, forks.log.read_text()
    assert_same_run(tmp_path / "whole", run)


@pytest.mark.slow
def test_a_run_killed_at_any_operation_on_its_files_ends_as_if_it_never_was(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    """Each open, write, sync, rename and removal from the folder's first to the last, three saves among them."""
    run_spec |= {"steps": 3, "batch_size": 8, "micro_batch_size": 4, "eval": {"every": 2}, "checkpoint": {"every": 1}}
    whole = tmp_path / "whole"
    gptzoo.train(run_spec, whole, quiet=True)
    deaths = 0
    with Forks(tmp_path / "log") as forks:
        for at in range(1, 10**4):
            run = tmp_path / str(at)
            code = forks.call("train", run_spec, str(run), {"at": at})
            if code == 0:
                break
            assert code == -signal.SIGKILL, forks.log.read_text()
            deaths += 1
            assert forks.call("train", run_spec, str(run)) == 0, forks.log.read_text()
            assert_same_run(whole, run)
            assert not list(run.rglob(".incomplete-*"))
            shutil.rmtree(run)
    assert deaths > 80


def modified(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0

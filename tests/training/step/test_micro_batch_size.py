"""Micro-batches that fit: found by trying or by reckoning, kept for the life of a run, and of no effect otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Killed, assert_same_run, die_at, rows

import gptzoo
from gptzoo.errors import InputError, SpecError
from gptzoo.training.run.run_folder import RunFolder
from gptzoo.training.step import micro_batch_size as fit
from gptzoo.training.step.micro_batch_size import largest_that_runs
from gptzoo.training.trainer import Trainer


@pytest.fixture
def spec(run_spec: dict[str, Any]) -> dict[str, Any]:
    return {**run_spec, "micro_batch_size": "auto"}


def room_for(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    monkeypatch.setattr(fit, "available_bytes", lambda device: n_bytes)


def size_of(run: Path) -> int:
    return json.loads((run / "environment.json").read_text())["micro_batch_size"]


def trainer(spec: dict[str, Any], out: Path) -> Trainer:
    return Trainer(gptzoo.load_run_spec(spec), RunFolder(out))


# ---------------------------------------------------------------------- reckoned


def test_the_smaller_the_room_the_smaller_the_micro_batch(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trainer(spec, tmp_path / "run")
    sizes = []
    for n_bytes in (2**34, 2**23, 2**22, 2**20, 0):
        room_for(monkeypatch, n_bytes)
        sizes.append(fit.fitting_size(one.spec, one.update, one.batching)[0])
    assert sizes[0] == 64
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) >= 3
    assert all(64 % size == 0 for size in sizes)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_rehearsal_of_two_rows_tells_the_memory_of_many(
    spec: dict[str, Any], tmp_path: Path, recompute: bool
) -> None:
    """Against the bytes alive in a step of 48 rows, counted in that step itself."""
    spec["model"] |= {"context_length": 64, "d_model": 64}
    one = trainer({**spec, "activation_checkpointing": recompute}, tmp_path / "run")
    few = [fit._rehearsed_bytes(one.update, one.batching, size) for size in (1, 2)]
    many = fit._rehearsed_bytes(one.update, one.batching, 48)
    assert few[0] + 47 * (few[1] - few[0]) == pytest.approx(many, rel=0.1)


def test_a_rehearsal_leaves_no_trace(spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room_for(monkeypatch, 2**34)
    gptzoo.train(spec, tmp_path / "auto", quiet=True)
    gptzoo.train({**spec, "micro_batch_size": size_of(tmp_path / "auto")}, tmp_path / "given", quiet=True)
    assert_same_run(tmp_path / "auto", tmp_path / "given")


def test_the_size_that_a_run_began_with_is_kept_when_it_goes_on(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    room_for(monkeypatch, 2**22)
    gptzoo.train(spec, tmp_path / "whole")
    first = size_of(tmp_path / "whole")
    assert 1 < first < 64
    assert f"{first} of 64 sequences at once (auto: " in capsys.readouterr().err
    with monkeypatch.context() as patch:
        die_at(patch, 7)
        with pytest.raises(Killed):
            gptzoo.train(spec, tmp_path / "killed", quiet=True)
    room_for(monkeypatch, 2**34)  # it would choose another one now
    gptzoo.train(spec, tmp_path / "killed", resume=True)
    assert size_of(tmp_path / "killed") == first
    assert f"{first} of 64 sequences at once (auto: found when the run began)" in capsys.readouterr().err
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    gptzoo.train({**spec, "batch_size": 3, "steps": 13}, tmp_path / "killed", override=True, quiet=True)
    assert size_of(tmp_path / "killed") == 3  # the one that was kept does not divide it


def test_the_loss_does_not_depend_on_what_was_picked(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec["model"]["dropout"] = 0.0
    for name, n_bytes in (("large", 2**34), ("small", 2**22)):
        room_for(monkeypatch, n_bytes)
        gptzoo.train({**spec, "steps": 3}, tmp_path / name, quiet=True)
    assert size_of(tmp_path / "small") < size_of(tmp_path / "large")
    losses = [[row.get("train/loss") for row in rows(tmp_path / name)[1:]] for name in ("large", "small")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("value", [0, -2, 1.5, "many", True])
def test_a_size_is_a_count_or_auto(spec: dict[str, Any], value: Any) -> None:
    with pytest.raises(SpecError, match=r'micro_batch_size: give a number above 0, "auto" or null'):
        gptzoo.load_run_spec({**spec, "micro_batch_size": value})


# ---------------------------------------------------------------------- tried


def test_trying_goes_down_until_a_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, collected = [], []
    monkeypatch.setattr(fit.gc, "collect", lambda: collected.append(True))  # which takes long among all these tests

    def attempt(size: int) -> None:
        tried.append(size)
        if size > 5:
            raise torch.OutOfMemoryError("no room")

    assert fit._halves(96) == [96, 48, 24, 12, 6, 3, 1]
    assert fit._halves(45) == [45, 15, 5, 1]
    assert fit._halves(7) == [7, 1]
    assert largest_that_runs(fit._halves(96), attempt) == 3
    assert tried == [96, 48, 24, 12, 6, 3]
    assert len(collected) == 5
    with pytest.raises(InputError, match="no room for a step with one sequence"):
        largest_that_runs([8, 6], attempt)


def test_another_error_than_want_of_memory_is_not_hidden() -> None:
    def attempt(size: int) -> None:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        largest_that_runs([2, 1], attempt)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd", "adafactor", "lion"])
def test_steps_that_were_only_tried_are_undone_to_the_bit(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """On the CPU what a GPU would do: the run after it is the run without it."""
    spec |= {"optimizer": optimizer, "micro_batch_size": 32, "ema_decay": 0.9}
    gptzoo.train(spec, tmp_path / "plain", quiet=True)
    original = fit.resolve_micro_batch_size

    def tried_before(*arguments: Any) -> int:
        run, update, batching = arguments[:3]
        before = {name: tensor.clone() for name, tensor in update.model.state_dict().items()}
        with fit._undone(run, update):
            for _ in range(2):
                update.gradient(fit.micro_batches(batching.train(0, 8), 8), 0)
                update.optimizer.step()
            assert any(not torch.equal(before[n], t) for n, t in update.model.state_dict().items())
        return original(*arguments)

    monkeypatch.setattr("gptzoo.training.trainer.settled_size", tried_before)
    gptzoo.train(spec, tmp_path / "tried", quiet=True)
    assert_same_run(tmp_path / "plain", tmp_path / "tried")

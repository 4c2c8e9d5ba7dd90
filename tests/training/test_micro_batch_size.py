"""Automatic micro-batch sizes: found by trials or estimates, kept for the whole run, without effect on the loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Killed, assert_same_run, die_at, rows

import gptzoo
from gptzoo.errors import InputError, SpecError
from gptzoo.training import micro_batch_size as fit
from gptzoo.training.micro_batch_size import largest_size_that_runs
from gptzoo.training.run.run_folder import RunFolder
from gptzoo.training.setup import Setup
from gptzoo.training.step.micro_batch import split_into_micro_batches


@pytest.fixture
def spec(run_spec: dict[str, Any]) -> dict[str, Any]:
    return {**run_spec, "micro_batch_size": "auto"}


def set_available_bytes(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    monkeypatch.setattr(fit, "available_bytes", lambda device: n_bytes)


def size_of(run: Path) -> int:
    return json.loads((run / "environment.json").read_text())["micro_batch_size"]


def setup_of(spec: dict[str, Any], out: Path) -> Setup:
    return Setup(gptzoo.load_run_spec(spec), RunFolder(out))


# ---------------------------------------------------------------------- estimates


def test_less_memory_gives_smaller_micro_batches(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = setup_of(spec, tmp_path / "run")
    sizes = []
    for n_bytes in (2**34, 2**23, 2**22, 2**20, 0):
        set_available_bytes(monkeypatch, n_bytes)
        sizes.append(fit.find_micro_batch_size(setup.spec, setup.train_step, setup.batching)[0])
    assert sizes[0] == 64
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) >= 3
    assert all(64 % size == 0 for size in sizes)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_memory_of_many_rows_is_extrapolated_from_two(
    spec: dict[str, Any], tmp_path: Path, recompute: bool
) -> None:
    """Compared with the bytes counted in a step of 48 rows."""
    spec["model"] |= {"context_length": 64, "d_model": 64}
    setup = setup_of({**spec, "activation_checkpointing": recompute}, tmp_path / "run")
    few = [fit._peak_activation_bytes(setup.train_step, setup.batching, size) for size in (1, 2)]
    many = fit._peak_activation_bytes(setup.train_step, setup.batching, 48)
    assert few[0] + 47 * (few[1] - few[0]) == pytest.approx(many, rel=0.1)


def test_on_gpus_the_estimate_knows_that_large_chunks_of_logits_stop_growing(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sequence has 5 units of activations and 20 of logits, of which no more than 6 sequences are held at once."""
    setup = setup_of(spec, tmp_path / "run")
    setup.train_step.device = torch.device("cuda")
    measured = []

    def peak(train_step: Any, batching: Any, size: int) -> int:
        measured.append(size)
        return (5 * size + 20 * min(size, 6)) * 2**20

    monkeypatch.setattr(fit, "_peak_activation_bytes", peak)
    trained = fit._OPTIMIZER_COPIES * sum(p.nbytes for p in setup.train_step.parameters.values())
    for size in (1, 2, 4, 8, 16, 32, 64):
        measured.clear()
        needed = (5 * size + 20 * min(size, 6)) * 2**20
        set_available_bytes(monkeypatch, int((trained + needed) / fit._MEMORY_FRACTION) + 2**19)
        found, reason = fit._estimate_size(setup.spec, setup.train_step, setup.batching)
        assert found == (size if size != 8 else 4), reason
        assert all(n <= 2 or peak(None, None, n) <= needed for n in tuple(measured))  # none runs out of memory


def test_estimates_do_not_change_the_run(spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_available_bytes(monkeypatch, 2**34)
    gptzoo.train(spec, tmp_path / "auto", quiet=True)
    gptzoo.train({**spec, "micro_batch_size": size_of(tmp_path / "auto")}, tmp_path / "given", quiet=True)
    assert_same_run(tmp_path / "auto", tmp_path / "given")


def test_a_resumed_run_keeps_its_micro_batch_size(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_available_bytes(monkeypatch, 2**22)
    gptzoo.train(spec, tmp_path / "whole")
    first = size_of(tmp_path / "whole")
    assert 1 < first < 64
    assert f"micro-batch: {first} of 64 sequences (auto: " in capsys.readouterr().err
    with monkeypatch.context() as patch:
        die_at(patch, 7)
        with pytest.raises(Killed):
            gptzoo.train(spec, tmp_path / "killed", quiet=True)
    set_available_bytes(monkeypatch, 2**34)  # a new run would choose a larger size
    gptzoo.train(spec, tmp_path / "killed", resume=True)
    assert size_of(tmp_path / "killed") == first
    assert f"micro-batch: {first} of 64 sequences (auto: chosen when the run started)" in capsys.readouterr().err
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    gptzoo.train({**spec, "batch_size": 3, "steps": 13}, tmp_path / "killed", override=True, quiet=True)
    assert size_of(tmp_path / "killed") == 3  # the stored size does not divide it


def test_the_loss_does_not_depend_on_the_size(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec["model"]["dropout"] = 0.0
    for name, n_bytes in (("large", 2**34), ("small", 2**22)):
        set_available_bytes(monkeypatch, n_bytes)
        gptzoo.train({**spec, "steps": 3}, tmp_path / name, quiet=True)
    assert size_of(tmp_path / "small") < size_of(tmp_path / "large")
    losses = [[row.get("train/loss") for row in rows(tmp_path / name)[1:]] for name in ("large", "small")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("value", [0, -2, 1.5, "many", True])
def test_a_size_is_a_positive_number_or_auto(spec: dict[str, Any], value: Any) -> None:
    with pytest.raises(SpecError, match=r'micro_batch_size: expected an integer above 0, "auto" or null'):
        gptzoo.load_run_spec({**spec, "micro_batch_size": value})


# ---------------------------------------------------------------------- trials


def test_trials_halve_the_size_until_a_step_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, collected = [], []
    monkeypatch.setattr(fit.gc, "collect", lambda: collected.append(True))  # slow in a process with many tests

    def attempt(size: int) -> None:
        tried.append(size)
        if size > 5:
            raise torch.OutOfMemoryError("no room")

    assert fit._halvings(96) == [96, 48, 24, 12, 6, 3, 1]
    assert fit._halvings(45) == [45, 15, 5, 1]
    assert fit._halvings(7) == [7, 1]
    assert largest_size_that_runs(fit._halvings(96), attempt) == 3
    assert tried == [96, 48, 24, 12, 6, 3]
    assert len(collected) == 5
    with pytest.raises(InputError, match="no room for a step with one sequence"):
        largest_size_that_runs([8, 6], attempt)


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")])
def test_errors_other_than_out_of_memory_are_raised(error: Exception) -> None:
    def attempt(size: int) -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        largest_size_that_runs([2, 1], attempt)


def test_a_library_of_cuda_without_memory_halves_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit.gc, "collect", lambda: None)

    def attempt(size: int) -> None:
        if size > 1:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    assert largest_size_that_runs([4, 2, 1], attempt) == 1


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd", "adafactor", "lion"])
def test_trial_steps_are_undone_bitwise(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """Trial steps run on the CPU here; the run after them is the same as without them."""
    spec |= {"optimizer": optimizer, "micro_batch_size": 32, "ema_decay": 0.9}
    gptzoo.train(spec, tmp_path / "plain", quiet=True)
    original = fit.resolve_micro_batch_size

    def run_trials_before(*arguments: Any) -> int:
        train_step, batching = arguments[1:3]
        before = {name: tensor.clone() for name, tensor in train_step.model.state_dict().items()}
        with fit._restoring(train_step):
            for _ in range(2):
                train_step.accumulate_gradients(split_into_micro_batches(batching.train_batch(0, 8), 8), 0)
                train_step.optimizer.step()
            assert any(not torch.equal(before[n], t) for n, t in train_step.model.state_dict().items())
        return original(*arguments)

    monkeypatch.setattr("gptzoo.training.run.resume.resolve_micro_batch_size", run_trials_before)
    gptzoo.train(spec, tmp_path / "tried", quiet=True)
    assert_same_run(tmp_path / "plain", tmp_path / "tried")

"""Runs over several ranks: training, checkpoints, errors and signals."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Killed, assert_same_run, before_step, die_at, rows
from support import admit
from torch import Tensor
from training.distributed.parallel_runs import (
    BOTH,
    DDP,
    FSDP,
    HSDP,
    LAST,
    SUCCESS,
    assert_close,
    common_error,
    train,
)

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import read_tensors
from gptzoo.training.run import save_checkpoint as saving


@BOTH
def test_two_ranks_train_like_one_process(run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]) -> None:
    """With dropout: a mask belongs to a micro-batch, whichever rank has it."""
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    assert train(2, {**run_spec, "parallel": parallel}, tmp_path / "two") == [SUCCESS] * 2
    assert_close(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_two_replicas_of_two_shards_train_like_one_process(
    run_spec: dict[str, Any], tmp_path: Path, tied: bool
) -> None:
    """With a vocabulary size that cannot be split evenly, micro-batches and activation checkpointing."""
    run_spec["model"] |= {
        "tie_embeddings": tied,
        "vocab_size": 257,
        "architecture": {"type": "decoder", "head_bias": True},
    }
    run_spec |= {"micro_batch_size": 8, "activation_checkpointing": True}
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    assert train(4, {**run_spec, "parallel": HSDP}, tmp_path / "four") == [SUCCESS] * 4
    assert_close(tmp_path / "one", tmp_path / "four")
    shapes = {
        run: {name: tuple(t.shape) for name, t in read_tensors(tmp_path / run / LAST / "model.safetensors").items()}
        for run in ("one", "four")
    }
    assert shapes["one"] == shapes["four"]
    assert ("head.weight" in shapes["four"]) is not tied


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(FSDP, {}), (FSDP, FSDP), ({}, FSDP), (DDP, FSDP), (FSDP, DDP)])
def test_a_run_resumes_with_another_number_of_ranks(
    run_spec: dict[str, Any], tmp_path: Path, first: dict[str, Any], then: dict[str, Any]
) -> None:
    """Weights, EMA and optimizer state are the same as those of a run that was never stopped."""
    run_spec |= {"schedule": "constant", "ema_decay": 0.9}
    run_spec["model"]["bias"] = False  # the gradient of a key bias is only rounding error
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    for steps, parallel in ((8, first), (12, then)):
        spec = {**run_spec, "steps": steps, "parallel": parallel}
        assert set(train(2 if parallel else 1, spec, tmp_path / "run", extend=True)) == {SUCCESS}
    for file in ("model.safetensors", "optimizer.safetensors", "averages.safetensors"):
        expected, actual = (read_tensors(tmp_path / run / LAST / file) for run in ("one", "run"))
        assert expected.keys() == actual.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(actual[name], tensor, rtol=1e-3, atol=2e-5)
    by_step = [{row["step"]: row for row in rows(tmp_path / run)} for run in ("one", "run")]
    for step in (9, 12):
        assert by_step[1][step]["train/loss"] == pytest.approx(by_step[0][step]["train/loss"], rel=1e-5)


@pytest.mark.slow
@BOTH
def test_a_run_that_is_killed_and_resumed_with_the_same_number_of_ranks_is_bitwise_the_same(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    spec = {**run_spec, "parallel": parallel, "ema_decay": 0.9}

    def die(rank: int) -> None:
        die_at(pytest.MonkeyPatch(), 7)

    assert train(2, spec, tmp_path / "whole") == [SUCCESS] * 2
    assert all(Killed.__name__ in ended.error for ended in train(2, spec, tmp_path / "killed", before=die))
    assert train(2, spec, tmp_path / "killed", resume=True) == [SUCCESS] * 2
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_one_process_loads_the_exact_weights_that_two_ranks_saved(run_spec: dict[str, Any], tmp_path: Path) -> None:
    assert train(2, {**run_spec, "parallel": FSDP}, tmp_path / "run") == [SUCCESS] * 2
    loaded = gptzoo.load(tmp_path / "run")
    saved = read_tensors(tmp_path / "run" / LAST / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in loaded.model.state_dict().items())
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2


class RandomWeight(gptzoo.FeedForward):
    """A component that uses one of its two weights at random, and counts its uses after each step."""

    name = "random_weight"
    may_skip_parameters = True

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.weights = torch.nn.ParameterList(torch.empty(dims.d_model, dims.d_model) for _ in range(2))
        self.register_buffer("uses", torch.empty(2))

    def initialise(self, rng: Any) -> None:
        for index, weight in enumerate(self.weights):
            torch.nn.init.normal_(weight, std=0.1, generator=rng(f"weights.{index}"))
        torch.nn.init.zeros_(self.uses)

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        index = torch.initial_seed() % 2 if self.training else 0  # the seed depends on the micro-batch only
        used = torch.nn.functional.one_hot(torch.tensor(index), 2).double()
        return gptzoo.SublayerOutput(x @ self.weights[index], metrics={"used": used})

    def after_optimizer_step(self, metrics: Any) -> None:
        self.uses.add_(metrics["used"].to(self.uses))


@pytest.mark.slow
@BOTH
def test_a_component_of_a_plugin_is_parallelized_like_a_built_in_one(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any], fresh_registry: registry.Registry
) -> None:
    """In most micro-batches the two ranks use different weights."""
    admit(RandomWeight, plugin="random_weight")
    run_spec |= {"batch_size": 16, "micro_batch_size": 1, "clip_norm": None}
    run_spec["model"] |= {"ffn": "random_weight", "bias": False}
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    assert train(2, {**run_spec, "parallel": parallel}, tmp_path / "two") == [SUCCESS] * 2
    assert_close(tmp_path / "one", tmp_path / "two", rel=1e-4)
    one, two = (read_tensors(tmp_path / run / LAST / "model.safetensors") for run in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5)
    assert one["blocks.0.ffn.uses"].sum() == 12


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["muon", "lion", "sgd"])
def test_optimizers_update_sharded_weights_like_full_ones(
    run_spec: dict[str, Any], tmp_path: Path, optimizer: str
) -> None:
    """With clipping, frozen weights and auxiliary losses; Muon multiplies full matrices."""
    run_spec |= {"optimizer": optimizer, "clip_norm": 0.5, "label_smoothing": 0.1, "z_loss": 1e-4}
    run_spec |= {"freeze": ["blocks.0.*"], "schedule": "constant"}
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    for steps in (8, 12):
        spec = {**run_spec, "steps": steps, "eval": {"every": 12}, "parallel": FSDP}
        assert train(2, spec, tmp_path / "two", override=True) == [SUCCESS] * 2
    one, two = ({row["step"]: row for row in rows(tmp_path / run)} for run in ("one", "two"))
    for step in (1, 8, 9, 12):  # Muon computes in bf16
        assert two[step]["train/loss"] == pytest.approx(one[step]["train/loss"], rel=2e-3)


@pytest.mark.slow
def test_an_optimizer_that_cannot_update_shards_is_rejected_before_anything_is_written(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    spec = {**run_spec, "optimizer": "adafactor", "parallel": FSDP}
    ended = train(2, spec, tmp_path / "run")
    assert {process.code for process in ended} == {2}
    assert (
        "$.optimizer: 'adafactor' does not support parallel.shard 2: torch cannot run it on sharded weights"
        in ended[0].error
    )
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_wrong_number_of_processes_is_rejected(run_spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(gptzoo.InputError) as caught:
        gptzoo.train({**run_spec, "parallel": {"replicate": 2, "shard": 4}}, tmp_path / "run")
    assert str(caught.value) == (
        "run: $.parallel: expected 8 processes (replicate 2 times shard 4), got 1; start them with: "
        'torchrun --nproc-per-node 8 -m gptzoo train …, or set replicate to "auto"'
    )
    with pytest.raises(gptzoo.InputError, match=r"parallel.shard: 1 processes cannot be grouped by 4"):
        gptzoo.train({**run_spec, "parallel": {"shard": 4}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_split_evenly_is_rejected(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(gptzoo.InputError) as caught:
        gptzoo.train(run_spec, tmp_path / "run")
    assert str(caught.value) == (
        "run: $.batch_size: 64 sequences cannot be split evenly over 3 processes; make it a multiple of 3, such as 63"
    )


@pytest.mark.slow
@BOTH
def test_a_signal_to_one_rank_stops_all_ranks_after_a_checkpoint(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    def send_signal(rank: int) -> None:
        def send(trainer: Any) -> None:
            if rank == 1 and trainer.train_state.step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

        before_step(pytest.MonkeyPatch(), send)

    ended = train(2, {**run_spec, "parallel": parallel}, tmp_path / "run", before=send_signal)
    assert (
        common_error(ended, 4)
        == f"{tmp_path / 'run'}: SIGTERM at step 5. A checkpoint was saved; continue with --resume"
    )
    assert (tmp_path / "run/checkpoints/step-00000005/manifest.json").exists()
    assert train(2, {**run_spec, "parallel": parallel}, tmp_path / "run", resume=True) == [SUCCESS] * 2


class Fragile(gptzoo.FeedForward):
    """Returns NaN in training while `broken` is set."""

    name = "fragile"
    broken = False

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Tensor:
        return x * float("nan") if self.training and Fragile.broken else x * 0.5


@pytest.mark.slow
@BOTH
def test_a_loss_that_is_not_finite_on_one_rank_ends_all_ranks_before_the_update(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any], fresh_registry: registry.Registry
) -> None:
    admit(Fragile, plugin="fragile")
    run_spec["model"]["ffn"] = "fragile"

    def break_component(rank: int) -> None:
        def set_broken(trainer: Any) -> None:
            Fragile.broken = rank == 1 and trainer.train_state.step == 6

        before_step(pytest.MonkeyPatch(), set_broken)

    ended = train(2, {**run_spec, "parallel": parallel}, tmp_path / "run", before=break_component)
    assert common_error(ended, 3) == (
        f"{tmp_path / 'run'}: the loss of step 7 is nan, over samples 416 to 447; first in the output of blocks.0.ffn. "
        "The weights were not updated. The last checkpoint is step-00000004. "
        "Try a lower learning rate, a longer warmup or a smaller clip_norm."
    )
    assert json.loads((tmp_path / "run/status.json").read_text())["status"] == "diverged"


@pytest.mark.slow
def test_a_full_disk_for_one_rank_ends_all_ranks_and_leaves_older_checkpoints_intact(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    def fill_disk(rank: int) -> None:
        original = saving.write_sharded_file

        def write(file: Path, tensors: Any, row_orders: Any, *, is_main: bool, on_all_ranks: Any) -> None:
            if rank == 1 and "step-00000008" in str(file):
                on_all_ranks(lambda: None)
                on_all_ranks(lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            original(file, tensors, row_orders, is_main=is_main, on_all_ranks=on_all_ranks)

        pytest.MonkeyPatch().setattr(saving, "write_sharded_file", write)

    ended = train(2, {**run_spec, "parallel": FSDP}, tmp_path / "run", before=fill_disk)
    assert "the checkpoint of step 8 cannot be written: process 1 failed: OSError: " in common_error(ended, 2)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]
    assert train(2, {**run_spec, "parallel": FSDP}, tmp_path / "run", resume=True) == [SUCCESS] * 2

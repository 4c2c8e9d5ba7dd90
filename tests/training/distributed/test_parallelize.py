"""Runs of several processes: what they learn, what they keep, and how they end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import Ended, together
from runs import Killed, assert_same_run, before_update, die_at, rows
from support import admit
from torch import Tensor

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import read_tensors
from gptzoo.training.run import checkpoint as saving

DDP, FSDP, HSDP = {"replicate": 2}, {"shard": 2}, {"replicate": 2, "shard": 2}
BOTH = pytest.mark.parametrize("parallel", [DDP, FSDP], ids=["ddp", "fsdp"])
FINE = Ended(0, "", False)


def train(n: int, spec: dict[str, Any], out: Path, **options: Any) -> list[Ended]:
    """Train in `n` processes, each patched by `before(rank)` first."""
    before: Callable[[int], Any] = options.pop("before", lambda rank: None)

    def work(rank: int) -> None:
        before(rank)
        gptzoo.train(spec, out, quiet=True, **options)

    return together(n, work, out.parent)


def assert_close(a: Path, b: Path, *, rel: float = 1e-5) -> None:
    """The metrics of two runs, up to rounding."""
    for one, other in zip(rows(a), rows(b), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=rel), f"{name} of step {one['step']}"


@BOTH
def test_two_processes_learn_what_one_does(run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]) -> None:
    """With dropout too: a mask belongs to a micro-batch, whichever process has it."""
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    assert train(2, {**run_spec, "parallel": parallel}, tmp_path / "two") == [FINE] * 2
    assert_close(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_two_copies_of_two_shards_learn_what_one_process_does(
    run_spec: dict[str, Any], tmp_path: Path, tied: bool
) -> None:
    """With a vocabulary that no number of processes here divides, micro-batches, and blocks that recompute."""
    run_spec["model"] |= {
        "tie_embeddings": tied,
        "vocab_size": 257,
        "architecture": {"type": "decoder", "head_bias": True},
    }
    run_spec |= {"micro_batch_size": 8, "activation_checkpointing": True}
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    assert train(4, {**run_spec, "parallel": HSDP}, tmp_path / "four") == [FINE] * 4
    assert_close(tmp_path / "one", tmp_path / "four")
    shapes = {
        run: {name: tuple(t.shape) for name, t in read_tensors(tmp_path / run / LAST / "model.safetensors").items()}
        for run in ("one", "four")
    }
    assert shapes["one"] == shapes["four"]
    assert ("head.weight" in shapes["four"]) is not tied


LAST = "checkpoints/step-00000012"


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(FSDP, {}), (FSDP, FSDP), ({}, FSDP), (DDP, FSDP), (FSDP, DDP)])
def test_a_run_goes_on_with_another_number_of_processes(
    run_spec: dict[str, Any], tmp_path: Path, first: dict[str, Any], then: dict[str, Any]
) -> None:
    """Weights, averages and the optimizer's state are those of the run that was never stopped."""
    run_spec |= {"schedule": "constant", "ema_decay": 0.9}
    run_spec["model"]["bias"] = False  # the gradient of a key's bias is nothing but rounding
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    for steps, parallel in ((8, first), (12, then)):
        spec = {**run_spec, "steps": steps, "parallel": parallel}
        assert set(train(2 if parallel else 1, spec, tmp_path / "run", extend=True)) == {FINE}
    for file in ("model.safetensors", "optimizer.safetensors", "averages.safetensors"):
        expected, found = (read_tensors(tmp_path / run / LAST / file) for run in ("one", "run"))
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=2e-5)
    by_step = [{row["step"]: row for row in rows(tmp_path / run)} for run in ("one", "run")]
    for step in (9, 12):
        assert by_step[1][step]["train/loss"] == pytest.approx(by_step[0][step]["train/loss"], rel=1e-5)


@pytest.mark.slow
@BOTH
def test_killed_and_resumed_with_as_many_processes_it_is_the_same_run_bit_by_bit(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    spec = {**run_spec, "parallel": parallel, "ema_decay": 0.9}

    def die(rank: int) -> None:
        die_at(pytest.MonkeyPatch(), 7)

    assert train(2, spec, tmp_path / "whole") == [FINE] * 2
    assert all(Killed.__name__ in ended.error for ended in train(2, spec, tmp_path / "killed", before=die))
    assert train(2, spec, tmp_path / "killed", resume=True) == [FINE] * 2
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_a_finished_run_is_the_same_folder_whoever_wrote_it(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """What is loaded is what was trained: a process alone saves what two have saved, to the bit."""
    assert train(2, {**run_spec, "parallel": FSDP}, tmp_path / "run") == [FINE] * 2
    loaded = gptzoo.load(tmp_path / "run")
    saved = read_tensors(tmp_path / "run" / LAST / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in loaded.model.state_dict().items())
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2


class Moody(gptzoo.FeedForward):
    """A part of somebody else: it draws which of its two weights it uses, and it learns from what it has used."""

    name = "moody"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.weights = torch.nn.ParameterList(torch.empty(dims.d_model, dims.d_model) for _ in range(2))
        self.register_buffer("seen", torch.empty(2))

    def initialise(self, rng: Any) -> None:
        for index, weight in enumerate(self.weights):
            torch.nn.init.normal_(weight, std=0.1, generator=rng(f"weights.{index}"))
        torch.nn.init.zeros_(self.seen)

    def forward(self, x: Tensor, step: Any, state: Any = None) -> Any:
        drawn = torch.initial_seed() % 2 if self.training else 0  # of the micro-batch, whoever has it
        used = torch.nn.functional.one_hot(torch.tensor(drawn), 2).double()
        return gptzoo.SublayerOutput(x @ self.weights[drawn], metrics={"used": used})

    def after_optimizer_step(self, metrics: Any) -> None:
        self.seen.add_(metrics["used"].to(self.seen))


@pytest.mark.slow
@BOTH
def test_a_part_that_the_core_has_never_heard_of_is_spread_like_any_other(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any], fresh_registry: registry.Registry
) -> None:
    """Its weights are hardly ever used alike in both processes."""
    admit(Moody, plugin="moody")
    run_spec |= {"batch_size": 16, "micro_batch_size": 1, "clip_norm": None}
    run_spec["model"] |= {"ffn": "moody", "bias": False}
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    assert train(2, {**run_spec, "parallel": parallel}, tmp_path / "two") == [FINE] * 2
    assert_close(tmp_path / "one", tmp_path / "two", rel=1e-4)
    one, two = (read_tensors(tmp_path / run / LAST / "model.safetensors") for run in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5)
    assert one["blocks.0.ffn.seen"].sum() == 12


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["muon", "lion", "sgd"])
def test_optimizers_move_sharded_weights_as_whole_ones(
    run_spec: dict[str, Any], tmp_path: Path, optimizer: str
) -> None:
    """Muon's products of whole matrices too; with clipping, frozen weights and what is added to the loss."""
    run_spec |= {"optimizer": optimizer, "clip_norm": 0.5, "label_smoothing": 0.1, "z_loss": 1e-4}
    run_spec |= {"freeze": ["blocks.0.*"], "schedule": "constant"}
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    for steps in (8, 12):
        spec = {**run_spec, "steps": steps, "eval": {"every": 12}, "parallel": FSDP}
        assert train(2, spec, tmp_path / "two", override=True) == [FINE] * 2
    one, two = ({row["step"]: row for row in rows(tmp_path / run)} for run in ("one", "two"))
    for step in (1, 8, 9, 12):  # Muon rounds to bf16 on its way
        assert two[step]["train/loss"] == pytest.approx(one[step]["train/loss"], rel=2e-3)


def told(ended: list[Ended], code: int) -> str:
    """What a run that all processes ended alike has told: one of them alone."""
    assert [one.code for one in ended] == [code] * len(ended), ended
    assert [one.silent for one in ended] == [rank > 0 for rank in range(len(ended))]
    return ended[0].error


@pytest.mark.slow
def test_an_optimizer_that_cannot_be_sharded_is_refused_before_anything_is_written(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    spec = {**run_spec, "optimizer": "adafactor", "parallel": FSDP}
    ended = train(2, spec, tmp_path / "run")
    assert {one.code for one in ended} == {2}
    assert "$.optimizer: 'adafactor' does not go with parallel.shard 2: torch cannot do on sharded" in ended[0].error
    assert not (tmp_path / "run" / "run.json").exists()


def test_processes_that_the_spec_does_not_have_are_refused(run_spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(gptzoo.InputError) as caught:
        gptzoo.train({**run_spec, "parallel": {"replicate": 2, "shard": 4}}, tmp_path / "run")
    assert str(caught.value) == (
        "run: $.parallel: replicate 2 times shard 4 is 8 processes, and 1 is there; start them with: "
        'torchrun --nproc-per-node 8 -m gptzoo train …, or set replicate to "auto"'
    )
    with pytest.raises(gptzoo.InputError, match=r"parallel.shard: 4 does not divide the 1 processes"):
        gptzoo.train({**run_spec, "parallel": {"shard": 4}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_processes_cannot_share_is_refused_and_never_rounded(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(gptzoo.InputError) as caught:
        gptzoo.train(run_spec, tmp_path / "run")
    assert str(caught.value) == (
        "run: $.batch_size: 64 sequences cannot be shared evenly by 3 processes; make it a multiple of 3 "
        "(63, for example)"
    )


@pytest.mark.slow
@BOTH
def test_a_signal_to_one_process_stops_all_of_them_after_saving(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    def signalled(rank: int) -> None:
        def act(trainer: Any) -> None:
            if rank == 1 and trainer.standing.step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

        before_update(pytest.MonkeyPatch(), act)

    ended = train(2, {**run_spec, "parallel": parallel}, tmp_path / "run", before=signalled)
    assert told(ended, 4) == f"{tmp_path / 'run'}: SIGTERM at step 5: saved; go on with --resume"
    assert (tmp_path / "run/checkpoints/step-00000005/manifest.json").exists()
    assert train(2, {**run_spec, "parallel": parallel}, tmp_path / "run", resume=True) == [FINE] * 2


class Fragile(gptzoo.FeedForward):
    """Gives no number for a row that begins with a chosen token, at the third step."""

    name = "fragile"
    broken = False

    def forward(self, x: Tensor, step: Any, state: Any = None) -> Tensor:
        return x * float("nan") if self.training and Fragile.broken else x * 0.5


@pytest.mark.slow
@BOTH
def test_a_loss_that_is_not_finite_in_one_process_ends_all_before_the_update(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any], fresh_registry: registry.Registry
) -> None:
    admit(Fragile, plugin="fragile")
    run_spec["model"]["ffn"] = "fragile"

    def breaks(rank: int) -> None:
        def act(trainer: Any) -> None:
            Fragile.broken = rank == 1 and trainer.standing.step == 6

        before_update(pytest.MonkeyPatch(), act)

    ended = train(2, {**run_spec, "parallel": parallel}, tmp_path / "run", before=breaks)
    assert told(ended, 3) == (
        f"{tmp_path / 'run'}: the loss of step 7 is nan, over samples 416 to 447; first in the output of blocks.0.ffn. "
        "The update was not made. The last checkpoint is step-00000004. "
        "Try a lower learning rate, a longer warmup or clip_norm."
    )
    assert json.loads((tmp_path / "run/status.json").read_text())["status"] == "diverged"


@pytest.mark.slow
def test_a_disk_that_is_full_for_one_process_ends_all_and_leaves_older_checkpoints_whole(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    def full(rank: int) -> None:
        original = saving.write_sharded_file

        def write(file: Path, tensors: Any, orders: Any, *, main: bool, everywhere: Any) -> None:
            if rank == 1 and "step-00000008" in str(file):
                everywhere(lambda: None)
                everywhere(lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            original(file, tensors, orders, main=main, everywhere=everywhere)

        pytest.MonkeyPatch().setattr(saving, "write_shared", write)

    ended = train(2, {**run_spec, "parallel": FSDP}, tmp_path / "run", before=full)
    assert "the checkpoint of step 8 cannot be written: process 1 failed: OSError: " in told(ended, 2)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]
    assert train(2, {**run_spec, "parallel": FSDP}, tmp_path / "run", resume=True) == [FINE] * 2

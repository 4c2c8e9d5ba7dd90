"""The training loop: metrics, options of a run, signals and numbers that are not finite."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import assert_same_run, before_step, overflow_at, rows
from safetensors.torch import load_file
from support import admit

import gptzoo
from gptzoo.checkpoint.checkpoints import list_checkpoints, newest_valid_checkpoint
from gptzoo.errors import DataError, Diverged, FolderError, Interrupted


def test_the_loss_falls_and_every_step_has_a_row(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["steps"] = 60
    result = gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    table = rows(tmp_path / "run")
    assert [row["step"] for row in table] == list(range(61))
    assert result.metrics["val/loss"] < table[0]["val/loss"] - 1.0
    assert all(row.keys() >= {"train/loss", "lr", "grad_norm"} for row in table[1:])
    evaluated = [row["step"] for row in table if "val/bits_per_byte" in row]
    assert evaluated == list(range(0, 61, 5))


def test_the_weights_do_not_depend_on_evaluations_and_checkpoints(run_spec: dict[str, Any], tmp_path: Path) -> None:
    often = {**copy.deepcopy(run_spec), "eval": {"every": 1}, "checkpoint": {"every": 1}}
    gptzoo.train(run_spec, tmp_path / "seldom", quiet=True)
    gptzoo.train(often, tmp_path / "often", quiet=True)
    last = [
        load_file(newest_valid_checkpoint(tmp_path / run / "checkpoints") / "model.safetensors")
        for run in ("seldom", "often")
    ]  # type: ignore[operator]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_accumulated_gradients_are_those_of_the_whole_batch(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["model"]["dropout"] = 0.0
    run_spec |= {"steps": 3, "clip_norm": None}
    for run, micro in (("whole", 64), ("micro", 8)):
        gptzoo.train({**run_spec, "micro_batch_size": micro}, tmp_path / run, quiet=True)
    for whole, micro in zip(rows(tmp_path / "whole"), rows(tmp_path / "micro"), strict=True):
        for key in whole.keys() & {"train/loss", "grad_norm", "val/loss"}:
            assert micro.get(key) == pytest.approx(whole.get(key), rel=1e-5)


def test_the_seed_determines_the_run(run_spec: dict[str, Any], tmp_path: Path) -> None:
    for run, seed in (("a", 1), ("b", 1), ("c", 2)):
        gptzoo.train({**run_spec, "seed": seed}, tmp_path / run, quiet=True)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert rows(tmp_path / "a")[0] != rows(tmp_path / "c")[0]


def test_training_restores_the_callers_generator(run_spec: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("length", "steps"), [({"tokens": 5000}, 5), ({"epochs": 0.5}, 4)])
def test_the_length_of_a_run_can_be_given_in_tokens_or_epochs(
    run_spec: dict[str, Any], tmp_path: Path, length: dict[str, Any], steps: int
) -> None:
    del run_spec["steps"]
    result = gptzoo.train({**run_spec, **length}, tmp_path / "run", quiet=True)
    assert result.steps == steps


class Bursting(gptzoo.Activation):
    """Returns NaN, or has an infinite gradient, from its 40th call in training on."""

    name = "bursting"
    calls = 0
    infinite_gradient = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Bursting.calls += self.training
        if Bursting.calls < 40:
            return x.relu()
        if not self.infinite_gradient:
            return x * float("nan")
        return x.relu() + (x * 0).sqrt()  # finite, with an infinite slope at 0


@pytest.mark.parametrize(
    ("infinite_gradient", "message"),
    [
        (False, "loss of step 10 is nan, over samples 608 to 639; first in the output of blocks.0.ffn.activation."),
        (
            True,
            "gradient norm of step 10 is nan, over samples 576 to 639; "
            "first in the backward pass of blocks.1.ffn.activation.",
        ),
    ],
)
def test_a_number_that_is_not_finite_ends_the_run_before_the_update_and_is_diagnosed(
    run_spec: dict[str, Any], tmp_path: Path, fresh_registry: Any, infinite_gradient: bool, message: str
) -> None:
    admit(Bursting)
    Bursting.calls, Bursting.infinite_gradient = 0, infinite_gradient
    run_spec["model"]["activation"] = "bursting"  # twice in each of two micro-batches
    with pytest.raises(Diverged) as caught:
        gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    assert message in str(caught.value)
    assert "The weights were not updated. The last checkpoint is step-00000008." in str(caught.value)
    checkpoint = newest_valid_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    assert all(tensor.isfinite().all() for tensor in load_file(checkpoint / "model.safetensors").values())


def test_a_weight_that_is_not_finite_is_named(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(trainer: Any) -> None:
        if trainer.train_state.step == 6:
            with torch.no_grad():
                trainer.model.embed.weight[0] = float("inf")

    before_step(monkeypatch, poison)
    with pytest.raises(Diverged, match=r"loss of step 7 is nan, .*; embed\.weight is not finite itself"):
        gptzoo.train(run_spec, tmp_path / "run", quiet=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_after_a_signal_the_step_is_finished_and_saved(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)

    def send_signal(trainer: Any) -> None:
        if trainer.train_state.step == 5:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        before_step(patch, send_signal)
        with pytest.raises(Interrupted, match=f"{number.name} at step 6"):
            gptzoo.train(run_spec, tmp_path / "stopped", quiet=True)
    assert max(list_checkpoints(tmp_path / "stopped" / "checkpoints")) == 6
    gptzoo.train(run_spec, tmp_path / "stopped", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_vocabulary_too_small_for_the_tokenizer_is_rejected_before_the_first_step(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    run_spec["model"]["vocab_size"] = 100
    with pytest.raises(DataError, match="100 is too small for tokenizer 'byte', which has 257"):
        gptzoo.train(run_spec, tmp_path / "run", quiet=True)


# ---------------------------------------------------------------------- options of a run


def last_tensors(run: Path, file: str = "model.safetensors") -> dict[str, torch.Tensor]:
    checkpoint = newest_valid_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / file)


def test_early_stopping_ends_the_run_and_keeps_the_best_checkpoint(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec |= {
        "steps": 200,
        "optimizer": {"type": "adamw", "lr": 0.3},
        "schedule": "constant",
        "eval": {"every": 2},
        "early_stopping": {"patience": 3},
    }
    result = gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    table = rows(tmp_path / "run")
    losses = {row["step"]: row["val/loss"] for row in table if "val/loss" in row}
    assert result.steps == table[-1]["step"] == result.best_step + 3 * 2 < 200
    assert losses[result.best_step] == min(losses.values())
    best = gptzoo.load(tmp_path / "run", best=True)
    assert best.folder.name == f"step-{result.best_step:08d}"
    again = gptzoo.train(run_spec, tmp_path / "run", resume=True, quiet=True)  # no more steps
    assert again == result
    assert rows(tmp_path / "run") == table


def test_loading_a_best_checkpoint_that_was_not_kept_is_an_error(run_spec: dict[str, Any], tmp_path: Path) -> None:
    never_better = {"early_stopping": {"patience": 50, "min_delta": 100.0}}
    result = gptzoo.train({**run_spec, **never_better}, tmp_path / "run", quiet=True)
    assert result.best_step == 0  # before the first checkpoint
    with pytest.raises(FolderError, match="the best checkpoint was not kept"):
        gptzoo.load(tmp_path / "run", best=True)


def test_the_ema_is_evaluated_saved_and_loaded_besides_the_weights(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "plain", quiet=True)
    gptzoo.train({**run_spec, "ema_decay": 0.8}, tmp_path / "averaged", quiet=True)
    weights = last_tensors(tmp_path / "averaged")
    assert all(torch.equal(weights[name], tensor) for name, tensor in last_tensors(tmp_path / "plain").items())
    averages = last_tensors(tmp_path / "averaged", "averages.safetensors")
    loaded = gptzoo.load(tmp_path / "averaged", averaged=True)
    assert all(torch.equal(value, averages[name]) for name, value in loaded.model.named_parameters())
    final = rows(tmp_path / "averaged")[-1]
    assert final["val/ema_loss"] != final["val/loss"]
    with pytest.raises(FolderError, match=r"no averaged weights .*; a run saves them if it sets ema_decay"):
        gptzoo.load(tmp_path / "plain", averaged=True)


def test_label_smoothing_and_z_loss_do_not_change_the_reported_cross_entropy(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    gptzoo.train({**run_spec, "steps": 1}, tmp_path / "plain", quiet=True)
    gptzoo.train({**run_spec, "steps": 1, "z_loss": 0.01, "label_smoothing": 0.1}, tmp_path / "both", quiet=True)
    plain, both = rows(tmp_path / "plain"), rows(tmp_path / "both")
    assert both[0] == plain[0]  # evaluation uses neither
    assert both[1]["train/loss"] == pytest.approx(plain[1]["train/loss"], rel=1e-6)
    assert both[1]["train/z_loss"] == pytest.approx(0.01 * torch.tensor(257.0).log().square().item(), rel=0.05)
    assert both[1].keys() - plain[1].keys() == {"train/z_loss", "train/label_smoothing"}


def test_skip_non_finite_skips_and_counts_updates(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow_at(monkeypatch, 3, 4)
    gptzoo.train({**run_spec, "skip_non_finite": 2}, tmp_path / "run", quiet=True)
    table = rows(tmp_path / "run")
    assert [row.get("skipped", 0) for row in table] == [0] * 4 + [1] + [2] * 8
    assert table[4]["grad_norm"] is None
    with pytest.raises(Diverged, match="gradient norm of step 5 is inf"):
        gptzoo.train({**run_spec, "skip_non_finite": 1}, tmp_path / "once", quiet=True)


def test_fp16_trains_like_fp32_and_lowers_its_scale_after_an_overflow(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gptzoo.train(run_spec, tmp_path / "fp32", quiet=True)
    gptzoo.train({**run_spec, "precision": "fp16"}, tmp_path / "fp16", quiet=True)
    wide, narrow = rows(tmp_path / "fp32"), rows(tmp_path / "fp16")
    assert narrow[-1]["val/loss"] == pytest.approx(wide[-1]["val/loss"], rel=2e-2)
    assert narrow[1]["grad_norm"] == pytest.approx(wide[1]["grad_norm"], rel=2e-2)  # the norm is unscaled
    overflow_at(monkeypatch, 3)
    gptzoo.train({**run_spec, "precision": "fp16"}, tmp_path / "overflow", quiet=True)
    table = rows(tmp_path / "overflow")
    assert [row["loss_scale"] for row in table[1:6]] == [2.0**16] * 3 + [2.0**15] * 2
    assert "skipped" not in table[-1]  # an overflow in fp16 is not counted as skipped


def test_tf32_is_rejected_on_a_cpu(run_spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(gptzoo.InputError, match="precision tf32: needs a CUDA device"):
        gptzoo.train({**run_spec, "precision": "tf32"}, tmp_path / "run", quiet=True)

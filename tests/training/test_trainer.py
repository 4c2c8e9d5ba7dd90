"""The loop: it learns, it keeps its promise about resuming, and it stops rather than spread what is not finite."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import assert_same_run, before_step, overflow_at, rows
from safetensors.torch import load_file
from support import admit

import gptzoo
from gptzoo.checkpoint.checkpoints import checkpoints, newest_valid
from gptzoo.errors import DataError, Diverged, FolderError, Interrupted


def test_the_loss_falls_and_every_step_has_its_row(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["steps"] = 60
    result = gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    table = rows(tmp_path / "run")
    assert [row["step"] for row in table] == list(range(61))
    assert result.metrics["val/loss"] < table[0]["val/loss"] - 1.0
    assert all(row.keys() >= {"train/loss", "lr", "grad_norm"} for row in table[1:])
    evaluated = [row["step"] for row in table if "val/bits_per_byte" in row]
    assert evaluated == list(range(0, 61, 5))


def test_evaluating_and_saving_more_often_changes_nothing(run_spec: dict[str, Any], tmp_path: Path) -> None:
    often = {**copy.deepcopy(run_spec), "eval": {"every": 1}, "checkpoint": {"every": 1}}
    gptzoo.train(run_spec, tmp_path / "seldom", quiet=True)
    gptzoo.train(often, tmp_path / "often", quiet=True)
    last = [
        load_file(newest_valid(tmp_path / run / "checkpoints") / "model.safetensors") for run in ("seldom", "often")
    ]  # type: ignore[operator]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_accumulation_gives_the_gradients_of_the_whole_batch(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["model"]["dropout"] = 0.0
    run_spec |= {"steps": 3, "clip_norm": None}
    for run, micro in (("whole", 64), ("micro", 8)):
        gptzoo.train({**run_spec, "micro_batch_size": micro}, tmp_path / run, quiet=True)
    for whole, micro in zip(rows(tmp_path / "whole"), rows(tmp_path / "micro"), strict=True):
        for key in whole.keys() & {"train/loss", "grad_norm", "val/loss"}:
            assert micro.get(key) == pytest.approx(whole.get(key), rel=1e-5)


def test_the_seed_decides_the_run(run_spec: dict[str, Any], tmp_path: Path) -> None:
    for run, seed in (("a", 1), ("b", 1), ("c", 2)):
        gptzoo.train({**run_spec, "seed": seed}, tmp_path / run, quiet=True)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert rows(tmp_path / "a")[0] != rows(tmp_path / "c")[0]


def test_training_leaves_the_callers_random_numbers_alone(run_spec: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("length", "steps"), [({"tokens": 5000}, 5), ({"epochs": 0.5}, 4)])
def test_a_run_can_be_as_long_as_tokens_or_epochs_say(
    run_spec: dict[str, Any], tmp_path: Path, length: dict[str, Any], steps: int
) -> None:
    del run_spec["steps"]
    result = gptzoo.train({**run_spec, **length}, tmp_path / "run", quiet=True)
    assert result.steps == steps


class Bursting(gptzoo.Activation):
    """Turns bad at its 40th call in training, and stays so."""

    name = "bursting"
    calls = 0
    infinite_gradient = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Bursting.calls += self.training
        if Bursting.calls < 40:
            return x.relu()
        if not self.infinite_gradient:
            return x * float("nan")
        return x.relu() + (x * 0).sqrt()  # finite, with the slope of a square root at 0


@pytest.mark.parametrize(
    ("infinite_gradient", "told"),
    [
        (False, "loss of step 10 is nan, over samples 608 to 639; first in the output of blocks.0.ffn.activation."),
        (
            True,
            "gradient norm of step 10 is nan, over samples 576 to 639; "
            "first in the backward pass of blocks.1.ffn.activation.",
        ),
    ],
)
def test_a_number_that_is_not_finite_stops_before_the_update_and_is_traced(
    run_spec: dict[str, Any], tmp_path: Path, fresh_registry: Any, infinite_gradient: bool, told: str
) -> None:
    admit(Bursting)
    Bursting.calls, Bursting.infinite_gradient = 0, infinite_gradient
    run_spec["model"]["activation"] = "bursting"  # twice in each of two micro-batches
    with pytest.raises(Diverged) as caught:
        gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    assert told in str(caught.value)
    assert "The update was not made. The last checkpoint is step-00000008." in str(caught.value)
    kept = newest_valid(tmp_path / "run" / "checkpoints")
    assert kept is not None
    assert all(tensor.isfinite().all() for tensor in load_file(kept / "model.safetensors").values())


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
def test_a_signal_lets_the_step_finish_and_saves(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)

    def signal_oneself(trainer: Any) -> None:
        if trainer.train_state.step == 5:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        before_step(patch, signal_oneself)
        with pytest.raises(Interrupted, match=f"{number.name} at step 6"):
            gptzoo.train(run_spec, tmp_path / "stopped", quiet=True)
    assert max(checkpoints(tmp_path / "stopped" / "checkpoints")) == 6
    gptzoo.train(run_spec, tmp_path / "stopped", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_used_folder_is_refused_and_left_as_it_is(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "thesis.txt").write_text("the only copy")
    with pytest.raises(FolderError, match="holds files, and no run; choose another --out"):
        gptzoo.train(run_spec, run, quiet=True)
    assert [file.name for file in run.iterdir()] == ["thesis.txt"]
    with pytest.raises(FolderError, match=r"thesis\.txt: is a file; choose another --out"):
        gptzoo.train(run_spec, run / "thesis.txt", quiet=True)
    (run / "run.json").write_text("{}")
    with pytest.raises(FolderError, match="is used already; go on with --resume"):
        gptzoo.train(run_spec, run, quiet=True)


def test_resuming_with_another_spec_is_refused_by_field(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    before = rows(tmp_path / "run")
    changed = {**run_spec, "optimizer": {"type": "adamw", "lr": 0.02}}
    with pytest.raises(FolderError, match=r"\$\.optimizer\.lr was 0\.01, is 0\.02"):
        gptzoo.train(changed, tmp_path / "run", resume=True, quiet=True)
    assert rows(tmp_path / "run") == before


def test_a_longer_run_is_refused_unless_it_is_asked_for_and_then_goes_on(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    run_spec["schedule"] = "constant"  # so that the length does not show in the steps that are done
    gptzoo.train({**run_spec, "steps": 12}, tmp_path / "run", quiet=True)
    longer = {**run_spec, "steps": 15}
    with pytest.raises(FolderError, match=r"\$\.steps was 12, is 15; --extend makes it a run of another length"):
        gptzoo.train(longer, tmp_path / "run", resume=True, quiet=True)
    with pytest.raises(FolderError, match=r"holds another run.*\$\.seed was 1, is 2; --override goes"):
        gptzoo.train({**longer, "seed": 2}, tmp_path / "run", extend=True, quiet=True)
    gptzoo.train(longer, tmp_path / "run", extend=True, quiet=True)
    gptzoo.train(longer, tmp_path / "run", resume=True, quiet=True)  # from now on it is that run
    gptzoo.train(longer, tmp_path / "at once", quiet=True)
    checkpoints = (newest_valid(tmp_path / run / "checkpoints") for run in ("run", "at once"))
    last = [load_file(checkpoint / "model.safetensors") for checkpoint in checkpoints if checkpoint is not None]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])
    assert len(rows(tmp_path / "run")) == 16


def test_a_run_cannot_become_shorter_than_it_is(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    with pytest.raises(FolderError, match="has made 12 steps already, which is over 10"):
        gptzoo.train({**run_spec, "steps": 10}, tmp_path / "run", extend=True, quiet=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 12


def test_resuming_a_finished_run_changes_nothing(run_spec: dict[str, Any], tmp_path: Path) -> None:
    first = gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    again = gptzoo.train(run_spec, tmp_path / "run", resume=True, quiet=True)
    assert again == first
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_resuming_over_changed_data_is_refused(run_spec: dict[str, Any], text_file: Path, tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    text_file.write_text(text_file.read_text().replace("cat", "cow", 1))
    with pytest.raises(FolderError, match="data"):
        gptzoo.train(run_spec, tmp_path / "run", resume=True, quiet=True)


def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    gptzoo.train(run_spec, tmp_path / "damaged", quiet=True)
    weights = tmp_path / "damaged" / "checkpoints" / "step-00000012" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    gptzoo.train(run_spec, tmp_path / "damaged", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "damaged")


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused_before_the_first_step(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    run_spec["model"]["vocab_size"] = 100
    with pytest.raises(DataError, match="100 is too small for tokenizer 'byte', which has 257"):
        gptzoo.train(run_spec, tmp_path / "run", quiet=True)


def test_a_second_process_is_refused_while_the_first_trains(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def try_another(trainer: Any) -> None:
        if trainer.train_state.step == 2 and not refused:
            code = (
                "import gptzoo, json, sys; gptzoo.train(json.loads(sys.argv[1]), sys.argv[2], resume=True, quiet=True)"
            )
            command = [sys.executable, "-c", code, json.dumps(run_spec), str(tmp_path / "run")]
            refused.append(subprocess.run(command, capture_output=True, text=True))

    before_step(monkeypatch, try_another)
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    assert refused[0].returncode != 0
    assert "another process is training in it" in refused[0].stderr


# ---------------------------------------------------------------------- what a run may be asked for


def last_of(run: Path, file: str = "model.safetensors") -> dict[str, torch.Tensor]:
    checkpoint = newest_valid(run / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / file)


def status(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text())


def test_a_run_that_gets_no_better_ends_early_and_keeps_its_best(run_spec: dict[str, Any], tmp_path: Path) -> None:
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
    again = gptzoo.train(run_spec, tmp_path / "run", resume=True, quiet=True)  # it stays ended
    assert again == result
    assert rows(tmp_path / "run") == table


def test_a_best_checkpoint_that_was_not_kept_is_not_made_up(run_spec: dict[str, Any], tmp_path: Path) -> None:
    never_better = {"early_stopping": {"patience": 50, "min_delta": 100.0}}
    result = gptzoo.train({**run_spec, **never_better}, tmp_path / "run", quiet=True)
    assert result.best_step == 0  # before the first checkpoint
    with pytest.raises(FolderError, match="the best checkpoint was not kept"):
        gptzoo.load(tmp_path / "run", best=True)


def test_averages_are_measured_saved_and_loaded_beside_the_weights(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "plain", quiet=True)
    gptzoo.train({**run_spec, "ema_decay": 0.8}, tmp_path / "averaged", quiet=True)
    weights = last_of(tmp_path / "averaged")
    assert all(torch.equal(weights[name], tensor) for name, tensor in last_of(tmp_path / "plain").items())
    averages = last_of(tmp_path / "averaged", "averages.safetensors")
    loaded = gptzoo.load(tmp_path / "averaged", averaged=True)
    assert all(torch.equal(value, averages[name]) for name, value in loaded.model.named_parameters())
    final = rows(tmp_path / "averaged")[-1]
    assert final["val/ema_loss"] != final["val/loss"]
    with pytest.raises(FolderError, match="no averaged weights .*; a run saves them if it sets ema_decay"):
        gptzoo.load(tmp_path / "plain", averaged=True)


def test_smoothing_and_z_loss_leave_the_reported_cross_entropy_comparable(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    gptzoo.train({**run_spec, "steps": 1}, tmp_path / "plain", quiet=True)
    gptzoo.train({**run_spec, "steps": 1, "z_loss": 0.01, "label_smoothing": 0.1}, tmp_path / "both", quiet=True)
    plain, both = rows(tmp_path / "plain"), rows(tmp_path / "both")
    assert both[0] == plain[0]  # evaluation knows of neither
    assert both[1]["train/loss"] == pytest.approx(plain[1]["train/loss"], rel=1e-6)
    assert both[1]["train/z_loss"] == pytest.approx(0.01 * torch.tensor(257.0).log().square().item(), rel=0.05)
    assert both[1].keys() - plain[1].keys() == {"train/z_loss", "train/label_smoothing"}


def test_updates_that_are_not_finite_are_left_out_and_counted_if_that_is_asked_for(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow_at(monkeypatch, 3, 4)
    gptzoo.train({**run_spec, "skip_non_finite": 2}, tmp_path / "run", quiet=True)
    table = rows(tmp_path / "run")
    assert [row.get("skipped", 0) for row in table] == [0] * 4 + [1] + [2] * 8
    assert table[4]["grad_norm"] is None
    with pytest.raises(Diverged, match="gradient norm of step 5 is inf"):
        gptzoo.train({**run_spec, "skip_non_finite": 1}, tmp_path / "once", quiet=True)


def test_fp16_follows_fp32_and_mends_an_overflow_by_a_smaller_scale(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gptzoo.train(run_spec, tmp_path / "fp32", quiet=True)
    gptzoo.train({**run_spec, "precision": "fp16"}, tmp_path / "fp16", quiet=True)
    wide, narrow = rows(tmp_path / "fp32"), rows(tmp_path / "fp16")
    assert narrow[-1]["val/loss"] == pytest.approx(wide[-1]["val/loss"], rel=2e-2)
    assert narrow[1]["grad_norm"] == pytest.approx(wide[1]["grad_norm"], rel=2e-2)  # unscaled
    overflow_at(monkeypatch, 3)
    gptzoo.train({**run_spec, "precision": "fp16"}, tmp_path / "overflow", quiet=True)
    table = rows(tmp_path / "overflow")
    assert [row["loss_scale"] for row in table[1:6]] == [2.0**16] * 3 + [2.0**15] * 2
    assert "skipped" not in table[-1]  # that is how fp16 finds its scale, and no fault


def test_another_batch_size_and_learning_rate_are_taken_over_if_that_is_asked_for(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    changed = {**run_spec, "batch_size": 32, "optimizer": {"type": "adamw", "lr": 0.005}, "steps": 14}
    with pytest.raises(FolderError, match=r"batch_size was 64, is 32.*--override goes on all the same"):
        gptzoo.train(changed, tmp_path / "run", extend=True, quiet=True)
    gptzoo.train(changed, tmp_path / "run", override=True, quiet=True)
    gptzoo.train(changed, tmp_path / "run", resume=True, quiet=True)  # from now on it is that run
    table = rows(tmp_path / "run")
    assert [row["tokens"] // 16 for row in table[11:]] == [64 * 11, 64 * 12, 64 * 12 + 32, 64 * 12 + 64]
    kept = json.loads((tmp_path / "run" / "changes.jsonl").read_text())
    assert kept["step"] == 12
    assert "$.batch_size was 64, is 32" in kept["changes"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["batch_size"] == 32


def test_a_run_over_other_data_goes_on_if_that_is_asked_for(
    run_spec: dict[str, Any], text_file: Path, tmp_path: Path
) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    text_file.write_text(text_file.read_text().replace("cat", "cow", 1))
    longer = {**run_spec, "steps": 14}
    with pytest.raises(FolderError, match="the data is not that which the run began with"):
        gptzoo.train(longer, tmp_path / "run", extend=True, quiet=True)
    gptzoo.train(longer, tmp_path / "run", override=True, quiet=True)
    gptzoo.train(longer, tmp_path / "run", resume=True, quiet=True)
    assert "the data is another" in json.loads((tmp_path / "run" / "changes.jsonl").read_text())["changes"]


def test_the_status_of_a_run_is_told_in_its_folder(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    before_step(monkeypatch, lambda trainer: seen.append(status(trainer.folder.path)["status"]))
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    assert set(seen) == {"running"}
    assert status(tmp_path / "run") == {"status": "done"}
    with pytest.raises(FolderError):  # refused, so it is still what it was
        gptzoo.train({**run_spec, "seed": 9}, tmp_path / "run", resume=True, quiet=True)
    assert status(tmp_path / "run") == {"status": "done"}
    overflow_at(monkeypatch, 2)
    with pytest.raises(Diverged):
        gptzoo.train(run_spec, tmp_path / "diverged", quiet=True)
    assert status(tmp_path / "diverged")["status"] == "diverged"
    assert "gradient norm of step 3 is inf" in status(tmp_path / "diverged")["reason"]


def test_tf32_is_refused_where_there_is_none(run_spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(gptzoo.InputError, match="precision tf32: is of CUDA devices"):
        gptzoo.train({**run_spec, "precision": "tf32"}, tmp_path / "run", quiet=True)

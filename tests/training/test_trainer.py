"""The loop: it learns, it keeps its promise about resuming, and it stops rather than spread what is not finite."""

from __future__ import annotations

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import admit

import gptzoo
from gptzoo.checkpoint.checkpoints import checkpoints, newest_valid
from gptzoo.errors import DataError, Diverged, FolderError, Interrupted
from gptzoo.training import trainer as trainer_module

TIMINGS = {"tokens_per_second"}


def rows(run: Path) -> list[dict[str, Any]]:
    """The metrics of a run without what depends on the clock."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMINGS} for line in lines]


def assert_same_run(a: Path, b: Path) -> None:
    last_a, last_b = newest_valid(a / "checkpoints"), newest_valid(b / "checkpoints")
    assert last_a is not None
    assert last_b is not None
    assert last_a.name == last_b.name
    for file in ("model.safetensors", "optimizer.safetensors"):
        tensors_a, tensors_b = load_file(last_a / file), load_file(last_b / file)
        assert tensors_a.keys() == tensors_b.keys()
        for name, tensor in tensors_a.items():
            assert torch.equal(tensor, tensors_b[name]), f"{file}: {name} differs"
    assert rows(a) == rows(b)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Make the next trainer die, without a chance to save, when it begins update number `step`."""

    class Killed(BaseException):
        pass

    original = trainer_module.Trainer._update

    def update(self: Any, parts: Any) -> Any:
        if self.standing.step == step:
            raise Killed
        return original(self, parts)

    monkeypatch.setattr(trainer_module.Trainer, "_update", update)
    stop_at.exception = Killed  # type: ignore[attr-defined]


def test_the_loss_falls_and_every_step_has_its_row(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["steps"] = 60
    result = gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    table = rows(tmp_path / "run")
    assert [row["step"] for row in table] == list(range(61))
    assert result.metrics["val/loss"] < table[0]["val/loss"] - 1.0
    assert all(row.keys() >= {"train/loss", "lr", "grad_norm"} for row in table[1:])
    evaluated = [row["step"] for row in table if "val/bits_per_byte" in row]
    assert evaluated == list(range(0, 61, 5))


@pytest.mark.parametrize("killed_at", [0, 3, 4, 5, 11])
def test_a_killed_run_resumes_to_bitwise_the_same_end(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        stop_at(patch, killed_at)
        with pytest.raises(stop_at.exception):  # type: ignore[attr-defined]
            gptzoo.train(run_spec, tmp_path / "killed", quiet=True)
    torch.rand(7)  # whatever happens to the global generator in between does not matter
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_resumed_run_can_be_killed_and_resumed_again(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    for killed_at in (5, 9):
        with monkeypatch.context() as patch:
            stop_at(patch, killed_at)
            with pytest.raises(stop_at.exception):  # type: ignore[attr-defined]
                gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    gptzoo.train(run_spec, tmp_path / "killed", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_run_that_lost_its_optimizer_state_would_be_noticed(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """The negative control of the tests above: they can fail."""
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    half = copy.deepcopy(run_spec)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(stop_at.exception):  # type: ignore[attr-defined]
            gptzoo.train(half, tmp_path / "killed", quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            trainer_module,
            "read_training_state",
            lambda folder, *_: json.loads((folder / "state.json").read_text()),
        )
        gptzoo.train(half, tmp_path / "killed", resume=True, quiet=True)
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "whole", tmp_path / "killed")


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
    original = trainer_module.Trainer._update

    def poisoned(self: Any, parts: Any) -> Any:
        if self.standing.step == 6:
            with torch.no_grad():
                self.model.embed.weight[0] = float("inf")
        return original(self, parts)

    monkeypatch.setattr(trainer_module.Trainer, "_update", poisoned)
    with pytest.raises(Diverged, match=r"loss of step 7 is nan, .*; embed\.weight is not finite itself"):
        gptzoo.train(run_spec, tmp_path / "run", quiet=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_lets_the_step_finish_and_saves(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    original = trainer_module.Trainer._update

    def update(self: Any, parts: Any) -> Any:
        if self.standing.step == 5:
            os.kill(os.getpid(), number)
        return original(self, parts)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module.Trainer, "_update", update)
        with pytest.raises(Interrupted, match=f"{number.name} at step 6"):
            gptzoo.train(run_spec, tmp_path / "stopped", quiet=True)
    assert max(checkpoints(tmp_path / "stopped" / "checkpoints")) == 6
    gptzoo.train(run_spec, tmp_path / "stopped", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_used_folder_is_refused_and_left_as_it_is(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "thesis.txt").write_text("the only copy")
    with pytest.raises(FolderError, match="is used already"):
        gptzoo.train(run_spec, run, quiet=True)
    assert [file.name for file in run.iterdir()] == ["thesis.txt"]


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
    original = trainer_module.Trainer._update
    refused = []

    def update(self: Any, parts: Any) -> Any:
        if self.standing.step == 2 and not refused:
            code = (
                "import gptzoo, json, sys; gptzoo.train(json.loads(sys.argv[1]), sys.argv[2], resume=True, quiet=True)"
            )
            command = [sys.executable, "-c", code, json.dumps(run_spec), str(tmp_path / "run")]
            refused.append(subprocess.run(command, capture_output=True, text=True))
        return original(self, parts)

    monkeypatch.setattr(trainer_module.Trainer, "_update", update)
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    assert refused[0].returncode != 0
    assert "another process is training in it" in refused[0].stderr


@pytest.mark.slow
def test_a_run_killed_at_random_times_ends_as_if_it_never_was(spec_file: Path, tmp_path: Path) -> None:
    """Real SIGKILLs of real processes, each some time after it has begun to train, as often as it takes to the end."""
    spec = json.loads(spec_file.read_text())
    spec |= {"steps": 200, "checkpoint": {"every": 7}}
    spec_file.write_text(json.dumps(spec))
    gptzoo.train(spec, tmp_path / "whole", quiet=True)
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "gptzoo", "train", str(spec_file), "--out", str(killed), "--resume"]
    rng = random.Random(0)
    kills = 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        before = modified(killed / "metrics.jsonl")
        while process.poll() is None and modified(killed / "metrics.jsonl") == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.1, 1.0))
        if process.poll() is not None or rows_so_far(killed) > spec["steps"]:  # what is left is a picture
            break
        process.kill()
        process.communicate()
        kills += 1
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert kills >= 3
    assert_same_run(tmp_path / "whole", killed)


def modified(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


def rows_so_far(run: Path) -> int:
    return len((run / "metrics.jsonl").read_text().splitlines())

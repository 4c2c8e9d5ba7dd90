"""Several processes in all the ways in which one trains, and when one of them fails alone."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from processes import Ended, together, torchrun
from runs import before_update, rows
from torch.distributed.fsdp import fully_shard
from training.test_parallel import BOTH, DDP, FINE, FSDP, LAST, assert_close, told, train

import gptzoo
from gptzoo.checkpoint.model_folder import find_model_folder, read_tensors
from gptzoo.checkpoint.sharded_tensors import full_tensor
from gptzoo.training.step import micro_batch_size as fit
from gptzoo.training.trainer import Trainer

# ---------------------------------------------------------------------- as one process does


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize(
    ("change", "rel"),
    [
        ({"precision": "bf16"}, 2e-2),
        ({"precision": "fp16"}, 2e-2),
        ({"batching": {"type": "windows", "token_dropout": 0.2}}, 1e-5),
        ({"batching": {"type": "packed", "restart_positions": True}}, 1e-5),
        ({"early_stopping": {"patience": 2, "min_delta": 100.0}, "steps": 40}, 1e-5),
    ],
    ids=["bf16", "fp16", "token_dropout", "packed", "early_stopping"],
)
def test_two_processes_do_as_one(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any], change: dict[str, Any], rel: float
) -> None:
    """What they find is the same up to rounding, and runs end at the same step."""
    run_spec |= change
    if "batching" in change:
        lines = [json.dumps({"text": f"{'a longer document than fits ' * (n % 3)}{n}"}) for n in range(400)]
        (tmp_path / "documents.jsonl").write_text("\n".join(lines))
        run_spec["corpus"] = {"type": "jsonl", "path": str(tmp_path / "documents.jsonl")}
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    assert train(2, {**run_spec, "parallel": parallel}, tmp_path / "two") == [FINE] * 2
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["step"] for row in two] == [row["step"] for row in one]
    assert one[-1]["step"] == (10 if "early_stopping" in change else 12)
    if rel < 1e-4:
        assert_close(tmp_path / "one", tmp_path / "two", rel=rel)
    for a, b in zip(one, two, strict=True):
        for name in a.keys() & {"train/loss", "val/loss", "loss_scale"}:
            assert b[name] == pytest.approx(a[name], rel=rel)


@pytest.mark.slow
@BOTH
def test_compiled_they_do_as_one_that_is_not(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    run_spec["model"] |= {"dropout": 0.0, "n_layers": 1}  # compiled code draws other numbers
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    torchrun(2, {**run_spec, "parallel": parallel, "compile": True}, tmp_path / "two")
    assert_close(tmp_path / "one", tmp_path / "two", rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [DDP, FSDP, {"tensor": 2}], ids=["ddp", "fsdp", "tensor"])
def test_they_begin_with_weights_from_elsewhere(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    run_spec["model"]["attention"] = {"type": "sdpa", "dropout": 0.0}
    gptzoo.train({**run_spec, "steps": 4, "seed": 7}, tmp_path / "first", quiet=True)
    run_spec |= {"init_from": str(tmp_path / "first"), "steps": 4}
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    assert train(2, {**run_spec, "parallel": parallel}, tmp_path / "two") == [FINE] * 2
    assert_close(tmp_path / "one", tmp_path / "two")
    assert rows(tmp_path / "two")[0]["val/loss"] == pytest.approx(rows(tmp_path / "first")[-1]["val/loss"], rel=1e-5)


@pytest.mark.slow
def test_torchs_distributed_checkpoints_read_what_a_run_has_saved(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """Into a model that two processes shard, and from there into their own format, as docs/scaling.md says."""
    assert train(2, {**run_spec, "steps": 4, "ema_decay": 0.9, "parallel": FSDP}, tmp_path / "run") == [FINE] * 2
    checkpoint = find_model_folder(tmp_path / "run")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").symlink_to(checkpoint / "model.safetensors")
    saved = read_tensors(checkpoint / "model.safetensors")

    def convert(rank: int) -> None:
        torch.distributed.init_process_group("gloo")
        model = gptzoo.build(checkpoint / "model.json", seed=9)
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
        state = model.state_dict()
        dcp.load(state, storage_reader=dcp.HuggingFaceStorageReader(str(tmp_path / "weights")))
        assert all(torch.equal(full_tensor(tensor), saved[name]) for name, tensor in state.items())
        dcp.save(state, checkpoint_id=tmp_path / "weights.dcp")
        torch.distributed.destroy_process_group()

    assert together(2, convert, tmp_path) == [FINE] * 2
    state = gptzoo.build(checkpoint / "model.json", seed=9).state_dict()
    dcp.load(state, checkpoint_id=tmp_path / "weights.dcp", no_dist=True)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in state.items())


# ---------------------------------------------------------------------- micro-batches


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [DDP, FSDP, {"tensor": 2}], ids=["ddp", "fsdp", "tensor"])
def test_all_take_the_micro_batch_that_the_one_with_the_least_room_can(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    """Kept for the rest of the run; and the batch, and so what is learned, is what it was."""
    run_spec["model"] |= {"dropout": 0.0}
    spec = {**run_spec, "micro_batch_size": "auto", "parallel": parallel}

    def room(**n_bytes: int) -> Any:
        def before(rank: int) -> None:
            of = n_bytes["first"] if rank == 0 else n_bytes["second"]
            pytest.MonkeyPatch().setattr(fit, "available_bytes", lambda device: of)

        return before

    assert train(2, spec, tmp_path / "roomy", before=room(first=2**34, second=2**34)) == [FINE] * 2
    assert train(2, spec, tmp_path / "tight", before=room(first=2**34, second=2**20)) == [FINE] * 2
    found = {
        run: json.loads((tmp_path / run / "environment.json").read_text())["micro_batch_size"]
        for run in ("roomy", "tight")
    }
    n_own = 64 if "tensor" in parallel else 32
    assert found["roomy"] == n_own
    assert 1 <= found["tight"] < n_own
    assert n_own % found["tight"] == 0
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    for run in ("roomy", "tight"):
        for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / run), strict=True):
            assert two.get("train/loss", 0) == pytest.approx(one.get("train/loss", 0), rel=1e-5)


# ---------------------------------------------------------------------- when one fails alone


def ended_alike(ended: list[Ended], code: int) -> str:
    """All have left, with this code; what the first of them has said."""
    assert [one.code for one in ended] == [code] * len(ended), ended
    return ended[0].error


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits the size of files")
def test_a_disk_that_is_full_for_metrics_ends_all_of_them(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """The main process alone writes them; the other would wait for it for ever."""

    def full(rank: int) -> None:
        if rank == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))

    run_spec |= {"steps": 100, "checkpoint": {"every": 100}, "eval": {"every": 100}}
    gptzoo.train({**run_spec, "steps": 1}, tmp_path / "before", quiet=True)  # tokenizes
    error = told(train(2, {**run_spec, "parallel": DDP}, tmp_path / "run", before=full), 2)
    assert error.startswith(f"{tmp_path / 'run' / 'metrics.jsonl'}: cannot be written: File too large.")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert 3 < len(lines) < 100


def at_step_5_of_the_second(act: Any) -> Any:
    def before(rank: int) -> None:
        def check(trainer: Any) -> None:
            if rank == 1 and trainer.standing.step == 5:
                act()

        before_update(pytest.MonkeyPatch(), check)

    return before


LEFT = "process 0: another process of the run has ended, and may have said why. Those that are left go too; go on from"


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [DDP, FSDP, {"tensor": 2}], ids=["ddp", "fsdp", "tensor"])
def test_one_that_is_killed_takes_the_others_along_and_the_run_goes_on_from_its_checkpoint(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    run_spec["model"]["attention"] = {"type": "sdpa", "dropout": 0.0}
    spec = {**run_spec, "parallel": parallel}
    killed = at_step_5_of_the_second(lambda: os.kill(os.getpid(), signal.SIGKILL))
    first, second = train(2, spec, tmp_path / "run", before=killed)
    assert second.code == -signal.SIGKILL
    assert first.code == 1
    assert first.error.startswith(LEFT)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["status"] == "failed"
    assert LEFT in status["reason"]
    assert train(2, spec, tmp_path / "run", resume=True) == [FINE] * 2
    assert (tmp_path / "run" / LAST).exists()


@pytest.mark.slow
@BOTH
def test_one_that_fails_by_a_mistake_in_the_code_takes_the_others_along(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    def fail() -> None:
        raise KeyError("a mistake")

    spec = {**run_spec, "parallel": parallel}
    ended = train(2, spec, tmp_path / "run", before=at_step_5_of_the_second(fail))
    assert ended_alike(ended, 1).startswith(LEFT)
    assert "KeyError: 'a mistake'" in ended[1].error


@pytest.mark.slow
def test_data_that_one_cannot_read_ends_all_before_the_update(run_spec: dict[str, Any], tmp_path: Path) -> None:
    def unreadable(rank: int) -> None:
        make = Trainer._batch

        def batch(self: Any, first: int) -> Any:
            if rank == 1 and first == 64 * 5:
                raise OSError(5, "Input/output error")
            return make(self, first)

        pytest.MonkeyPatch().setattr(Trainer, "_batch", batch)

    ended = train(2, {**run_spec, "parallel": DDP}, tmp_path / "run", before=unreadable)
    assert ended_alike(ended, 1) == "process 1 failed: OSError: [Errno 5] Input/output error"
    assert rows(tmp_path / "run")[-1]["step"] == 5

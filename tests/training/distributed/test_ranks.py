"""Training options over several ranks, and faults on one rank alone."""

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
from runs import before_step, rows
from support import admit
from torch.distributed.fsdp import fully_shard
from toy_task import Echo, echo_run
from training.distributed.parallel_runs import BOTH, DDP, FSDP, LAST, SUCCESS, assert_close, common_error, train

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import find_model_folder, read_tensors
from gptzoo.checkpoint.sharded_tensors import full_tensor
from gptzoo.training import micro_batch_size as fit
from gptzoo.training.trainer import Trainer

RUNS = ("one", "two", "first")

# ---------------------------------------------------------------------- options of a run


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
def test_two_ranks_train_like_one_process_with_every_option(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any], change: dict[str, Any], rel: float
) -> None:
    """Metrics are the same up to rounding, and runs end at the same step."""
    run_spec |= change
    if "batching" in change:
        lines = [json.dumps({"text": f"{'a longer document than fits ' * (n % 3)}{n}"}) for n in range(400)]
        (tmp_path / "documents.jsonl").write_text("\n".join(lines))
        run_spec["corpus"] = {"type": "jsonl", "path": str(tmp_path / "documents.jsonl")}
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    assert train(2, {**run_spec, "parallel": parallel}, tmp_path / "two") == [SUCCESS] * 2
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
def test_two_ranks_with_compiled_blocks_train_like_one_eager_process(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    run_spec["model"] |= {"dropout": 0.0, "n_layers": 1}  # compiled code draws other random numbers
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    torchrun(2, {**run_spec, "parallel": parallel, "compile": True}, tmp_path / "two")
    assert_close(tmp_path / "one", tmp_path / "two", rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [DDP, FSDP, {"tensor": 2}], ids=["ddp", "fsdp", "tensor"])
def test_two_ranks_start_from_initial_weights(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    run_spec["model"]["attention"] = {"type": "sdpa", "dropout": 0.0}
    gptzoo.train({**run_spec, "steps": 4, "seed": 7}, tmp_path / "first", quiet=True)
    run_spec |= {"init_from": str(tmp_path / "first"), "steps": 4}
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    assert train(2, {**run_spec, "parallel": parallel}, tmp_path / "two") == [SUCCESS] * 2
    assert_close(tmp_path / "one", tmp_path / "two")
    assert rows(tmp_path / "two")[0]["val/loss"] == pytest.approx(rows(tmp_path / "first")[-1]["val/loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [DDP, FSDP, {"tensor": 2}], ids=["ddp", "fsdp", "tensor"])
def test_two_ranks_train_a_new_part_among_taken_over_weights(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    """With a longer table of positions, weight decay and clipping, and a stop in the middle."""
    run_spec["model"]["attention"] = {"type": "sdpa", "dropout": 0.0}
    gptzoo.train({**run_spec, "steps": 4, "seed": 7}, tmp_path / "first", quiet=True)
    run_spec["model"] |= {"ffn": {"type": "glu", "multiplier": 2.0}, "context_length": 24, "dropout": 0.0}
    run_spec |= {"init_from": {"path": str(tmp_path / "first"), "partial": True}, "clip_norm": 0.1, "steps": 8}
    run_spec |= {"train_only": ["blocks.*.ffn"], "optimizer": {"type": "adamw", "lr": 0.01, "weight_decay": 0.3}}
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    spec = {**run_spec, "parallel": parallel}
    assert train(2, spec, tmp_path / "two", until=5) == [SUCCESS] * 2
    assert train(2, spec, tmp_path / "two", resume=True) == [SUCCESS] * 2
    assert_close(tmp_path / "one", tmp_path / "two")
    one, two, first = (read_tensors(find_model_folder(tmp_path / run) / "model.safetensors") for run in RUNS)
    for name, tensor in two.items():
        torch.testing.assert_close(tensor, one[name], rtol=1e-3, atol=1e-5, msg=name)
        if name in first and ".ffn." not in name:
            taken = first[name]
            assert torch.equal(tensor[: len(taken)] if taken.ndim else tensor, taken), name


@pytest.mark.slow
def test_torchs_distributed_checkpoints_read_a_checkpoint_of_a_run(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """DCP loads it into a model that two ranks shard, and saves it in its own format, as in docs/scaling.md."""
    assert train(2, {**run_spec, "steps": 4, "ema_decay": 0.9, "parallel": FSDP}, tmp_path / "run") == [SUCCESS] * 2
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

    assert together(2, convert, tmp_path) == [SUCCESS] * 2
    state = gptzoo.build(checkpoint / "model.json", seed=9).state_dict()
    dcp.load(state, checkpoint_id=tmp_path / "weights.dcp", no_dist=True)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in state.items())


# ---------------------------------------------------------------------- micro-batches


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [DDP, FSDP, {"tensor": 2}], ids=["ddp", "fsdp", "tensor"])
def test_all_ranks_use_the_micro_batch_size_of_the_rank_with_the_least_memory(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    """The size is stored in the run folder. The batch, and so the loss, does not depend on it."""
    run_spec["model"] |= {"dropout": 0.0}
    spec = {**run_spec, "micro_batch_size": "auto", "parallel": parallel}

    def memory(*, first: int, second: int) -> Any:
        def before(rank: int) -> None:
            n_bytes = first if rank == 0 else second
            pytest.MonkeyPatch().setattr(fit, "available_bytes", lambda device: n_bytes)

        return before

    assert train(2, spec, tmp_path / "roomy", before=memory(first=2**34, second=2**34)) == [SUCCESS] * 2
    assert train(2, spec, tmp_path / "tight", before=memory(first=2**34, second=2**20)) == [SUCCESS] * 2
    sizes = {
        run: json.loads((tmp_path / run / "environment.json").read_text())["micro_batch_size"]
        for run in ("roomy", "tight")
    }
    n_rows = 64 if "tensor" in parallel else 32
    assert sizes["roomy"] == n_rows
    assert 1 <= sizes["tight"] < n_rows
    assert n_rows % sizes["tight"] == 0
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    for run in ("roomy", "tight"):
        for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / run), strict=True):
            assert two.get("train/loss", 0) == pytest.approx(one.get("train/loss", 0), rel=1e-5)


# ---------------------------------------------------------------------- faults on one rank


def error_of_first(ended: list[Ended], code: int) -> str:
    """Return the error of the first process, after checking that all have this exit code."""
    assert [process.code for process in ended] == [code] * len(ended), ended
    return ended[0].error


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits the size of files")
def test_a_full_disk_for_the_metrics_ends_all_ranks(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """Only the main rank writes metrics, and the other ranks must not wait for it forever."""

    def limit_file_size(rank: int) -> None:
        if rank == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))

    run_spec |= {"steps": 100, "checkpoint": {"every": 100}, "eval": {"every": 100}}
    gptzoo.train({**run_spec, "steps": 1}, tmp_path / "before", quiet=True)  # tokenizes the text
    error = common_error(train(2, {**run_spec, "parallel": DDP}, tmp_path / "run", before=limit_file_size), 2)
    assert error.startswith(f"{tmp_path / 'run' / 'metrics.jsonl'}: cannot be written: File too large.")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert 3 < len(lines) < 100


def on_second_rank_at_step_5(call: Any) -> Any:
    def before(rank: int) -> None:
        def check(trainer: Any) -> None:
            if rank == 1 and trainer.train_state.step == 5:
                call()

        before_step(pytest.MonkeyPatch(), check)

    return before


LOST_RANK = (
    "process 0: another process of this run has ended; its own message may say why. All processes of the run end. "
    "Continue from the last checkpoint"
)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [DDP, FSDP, {"tensor": 2}], ids=["ddp", "fsdp", "tensor"])
def test_the_kill_of_one_rank_ends_all_ranks_and_the_run_can_be_resumed(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    run_spec["model"]["attention"] = {"type": "sdpa", "dropout": 0.0}
    spec = {**run_spec, "parallel": parallel}
    killed = on_second_rank_at_step_5(lambda: os.kill(os.getpid(), signal.SIGKILL))
    first, second = train(2, spec, tmp_path / "run", before=killed)
    assert second.code == -signal.SIGKILL
    assert first.code == 1
    assert first.error.startswith(LOST_RANK)
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["status"] == "failed"
    assert LOST_RANK in status["reason"]
    assert train(2, spec, tmp_path / "run", resume=True) == [SUCCESS] * 2
    assert (tmp_path / "run" / LAST).exists()


@pytest.mark.slow
@BOTH
def test_an_unexpected_exception_on_one_rank_ends_all_ranks(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    def fail() -> None:
        raise KeyError("a bug")

    spec = {**run_spec, "parallel": parallel}
    ended = train(2, spec, tmp_path / "run", before=on_second_rank_at_step_5(fail))
    assert error_of_first(ended, 1).startswith(LOST_RANK)
    assert "KeyError: 'a bug'" in ended[1].error


@pytest.mark.slow
def test_unreadable_data_on_one_rank_ends_all_ranks_before_the_update(run_spec: dict[str, Any], tmp_path: Path) -> None:
    def unreadable(rank: int) -> None:
        original = Trainer._load_micro_batches

        def load(self: Any, first: int) -> Any:
            if rank == 1 and first == 64 * 5:
                raise OSError(5, "Input/output error")
            return original(self, first)

        pytest.MonkeyPatch().setattr(Trainer, "_load_micro_batches", load)

    ended = train(2, {**run_spec, "parallel": DDP}, tmp_path / "run", before=unreadable)
    assert error_of_first(ended, 1) == "process 1 failed: OSError: [Errno 5] Input/output error"
    assert rows(tmp_path / "run")[-1]["step"] == 5


@pytest.mark.slow
@BOTH
def test_a_metric_that_fails_on_one_rank_ends_all_ranks_together(
    tmp_path: Path, parallel: dict[str, Any], fresh_registry: registry.Registry
) -> None:
    """The other rank still computes batches of the evaluation, for which FSDP needs both."""
    admit(Echo)

    def uncountable(rank: int) -> None:
        def hits(self: Echo, sample: gptzoo.Sample, predictions: Any) -> Any:
            raise KeyError("no such answer")

        if rank == 1:
            pytest.MonkeyPatch().setattr(Echo, "hits", hits)

    spec = echo_run(parallel=parallel)
    spec["corpus"] |= {"n_val": 10_000}  # several batches for each rank
    ended = train(2, spec, tmp_path / "run", before=uncountable)
    assert error_of_first(ended, 1) == "process 1 failed: KeyError: 'no such answer'"
    assert "KeyError: 'no such answer'" in ended[1].error

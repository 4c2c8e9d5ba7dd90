"""Runs on CUDA: the same losses as on the CPU, and one wait of the host per step."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda.model_check import check_waits, documented_waits
from host_waits import recorded_host_waits

import gptzoo
from gptzoo.training.run.metrics_file import read_metrics
from gptzoo.training.trainer import Trainer

pytestmark = pytest.mark.cuda

WAITS_PER_STEP = documented_waits("training step")


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run_spec(tmp_path: Path) -> dict[str, Any]:
    words = random.Random(0).choices(["one", "red", "cat", "runs", "and", "then"], k=800)
    (tmp_path / "text.txt").write_text(" ".join(words))
    return {
        "model": {"context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 2},
        "corpus": {"type": "text", "path": str(tmp_path / "text.txt")},
        "tokenizer": "byte",
        "batch_size": 16,
        "micro_batch_size": 8,
        "steps": 6,
        "precision": "fp32",
        "device": "cuda",
        "sample": {"max_new_tokens": 0},
    }


def train(spec: dict[str, Any], out: Path, **changes: Any) -> list[dict[str, Any]]:
    gptzoo.train({**spec, **changes}, out, quiet=True)
    return read_metrics(out / "metrics.jsonl")


def close(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], *, tolerance: float = 1e-3) -> None:
    """Compare the losses and the gradients of two runs."""
    assert len(ours) == len(theirs)
    for row, other in zip(ours, theirs, strict=True):
        for name in ("train/loss", "val/loss", "val/ema_loss", "grad_norm"):
            value, expected = row.get(name), other.get(name)
            is_close = value is expected is None or value == pytest.approx(expected, rel=tolerance)
            assert is_close, f"step {row['step']}: {name} is {value}, not {expected}"


@pytest.mark.parametrize("optimizer", list(gptzoo.registered("optimizer")))
def test_a_run_on_cuda_has_the_losses_of_a_run_on_the_cpu(
    optimizer: str, run_spec: dict[str, Any], tmp_path: Path
) -> None:
    options = {"optimizer": {"type": optimizer}, "ema_decay": 0.9, "watch": {"every": 2}}
    on_cuda = train(run_spec, tmp_path / "cuda", **options)
    close(on_cuda, train(run_spec, tmp_path / "cpu", **options, device="cpu"))


OPTIONS: dict[str, dict[str, Any]] = {
    "packed": {"batching": "packed"},
    "smoothing": {"label_smoothing": 0.1, "z_loss": 1e-3},
    "recomputed": {"activation_checkpointing": True},
    "automatic": {"micro_batch_size": "auto"},
    "window": {"model": {"attention": {"type": "sdpa", "n_kv_heads": 1, "window": 5}, "positional": "rope"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_of_a_run_have_the_same_effect_on_cuda(
    options: dict[str, Any], run_spec: dict[str, Any], tmp_path: Path
) -> None:
    changes = {**options, "model": {**run_spec["model"], **options.get("model", {})}}
    on_cuda = train(run_spec, tmp_path / "cuda", **changes)
    close(on_cuda, train(run_spec, tmp_path / "cpu", **changes, device="cpu"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bits_are_near_32(precision: str, run_spec: dict[str, Any], tmp_path: Path) -> None:
    rows = train(run_spec, tmp_path / "16", precision=precision)
    expected = train(run_spec, tmp_path / "32")
    assert rows[-1]["val/loss"] == pytest.approx(expected[-1]["val/loss"], rel=0.02)


def test_a_resumed_run_is_the_uninterrupted_one(run_spec: dict[str, Any], tmp_path: Path) -> None:
    whole = train(run_spec, tmp_path / "whole")
    gptzoo.train(run_spec, tmp_path / "resumed", until=3, quiet=True)
    gptzoo.train(run_spec, tmp_path / "resumed", resume=True, quiet=True)
    close(read_metrics(tmp_path / "resumed" / "metrics.jsonl"), whole, tolerance=1e-6)


@pytest.mark.parametrize("optimizer", list(gptzoo.registered("optimizer")))
def test_the_host_waits_once_in_a_training_step(
    optimizer: str, run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[Counter[str]] = []
    original = Trainer._train_on

    def train_on(self: Trainer, micro_batches: Any) -> Any:
        with recorded_host_waits() as waits:
            row = original(self, micro_batches)
        recorded.append(waits)
        return row

    monkeypatch.setattr(Trainer, "_train_on", train_on)
    options = {"optimizer": {"type": optimizer}, "ema_decay": 0.9, "label_smoothing": 0.1, "z_loss": 1e-3}
    rows = train(run_spec, tmp_path / "run", **options)
    assert len(recorded) == run_spec["steps"]
    for waits in recorded[1:]:  # the first step makes the optimizer's state
        check_waits(waits, WAITS_PER_STEP)
    assert all(math.isfinite(row["tokens_per_second"]) for row in rows[1:])


def test_a_large_gpu_needs_no_chunks_for_the_loss_of_a_usual_batch() -> None:
    from gptzoo.model.head import _max_chunk_logits

    if torch.cuda.get_device_properties(0).total_memory < 80 * 10**9:
        pytest.skip("the GPU is smaller")
    assert _max_chunk_logits(torch.device("cuda")) >= 12 * 1024 * 50257

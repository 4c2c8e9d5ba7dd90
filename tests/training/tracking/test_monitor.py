"""Monitored metrics equal independent computations, and monitoring changes no bit of a run."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import assert_same_run
from support import admit, small
from torch import Tensor
from toy_task import Echo, echo_run

import gptzoo
from gptzoo import registry
from gptzoo.ablation.design.costs import CostCache
from gptzoo.registry import Origin
from gptzoo.spec.files import load_run_spec
from gptzoo.training.hardware.peak_flops import peak_flops_of
from gptzoo.training.run.metrics_file import read_metrics
from gptzoo.training.step.step_timer import StepTimer
from gptzoo.training.tracking.attention_entropy import attention_entropy


def column(run: Path, name: str) -> dict[int, Any]:
    return {row["step"]: row[name] for row in read_metrics(run / "metrics.jsonl") if name in row}


class WeightRecorder:
    """A plugin that stores the weights after each step."""

    def __init__(self) -> None:
        self.at: dict[int, dict[str, Tensor]] = {}

    @gptzoo.hookimpl
    def gptzoo_step(self, model: Any, row: Any) -> None:
        self.at[row["step"]] = {name: value.detach().clone() for name, value in model.named_parameters()}


def test_update_ratios_are_the_update_norm_over_the_weight_norm(
    fresh_registry: registry.Registry, run_spec: dict[str, Any], tmp_path: Path
) -> None:
    recorder = WeightRecorder()
    fresh_registry.admit(recorder, Origin("weights", "gptzoo-weights", "1.0"))
    gptzoo.train({**run_spec, "watch": {"every": 4}}, tmp_path / "run", quiet=True)
    for part, pattern in {
        "attention": r"blocks\.\d\.attention\.",
        "ffn": r"blocks\.\d\.ffn\.",
        "embed": r"embed\.",
    }.items():
        ratios = column(tmp_path / "run", f"update_ratio/{part}")
        assert list(ratios) == [4, 8, 12]
        for step, ratio in ratios.items():
            names = [name for name in recorder.at[step] if re.match(pattern, name)]
            before = torch.cat([recorder.at[step - 1][name].flatten() for name in names]).double()
            after = torch.cat([recorder.at[step][name].flatten() for name in names]).double()
            assert ratio == pytest.approx(((after - before).norm() / before.norm()).item(), rel=1e-4)


def test_monitoring_changes_no_bit_of_a_run(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train({**run_spec, "watch": {"every": None}}, tmp_path / "unmonitored", quiet=True)
    gptzoo.train({**run_spec, "watch": {"every": 1}}, tmp_path / "monitored", quiet=True)
    rows = read_metrics(tmp_path / "unmonitored" / "metrics.jsonl")
    for row, other in zip(rows, read_metrics(tmp_path / "monitored" / "metrics.jsonl"), strict=True):
        assert {name: other[name] for name in row if name != "tokens_per_second"} == {
            name: row[name] for name in row if name != "tokens_per_second"
        }
    again = tmp_path / "again"
    gptzoo.train({**run_spec, "watch": {"every": 1}}, again, quiet=True)
    assert_same_run(tmp_path / "monitored", again)


def test_mfu_is_the_fraction_of_peak_flops(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train({**run_spec, "watch": {"peak_tflops": 0.5}}, tmp_path / "run", quiet=True)
    spec = load_run_spec(tmp_path / "run" / "run.json").model
    # Kaplan et al. 2020: 6 N for matrices, and 12 L T C for attention scores and weighted values.
    d, n_layers = spec.d_model, spec.n_layers
    matrices = n_layers * 12 * d * d + spec.vocab_size * d
    flops = 6 * matrices + 12 * n_layers * spec.context_length * d
    for row in read_metrics(tmp_path / "run" / "metrics.jsonl")[1:]:
        assert row["mfu"] == pytest.approx(row["tokens_per_second"] * flops / 0.5e12, rel=0.01)


def test_the_flops_of_samples_are_those_of_their_own_length(fresh_registry: registry.Registry, tmp_path: Path) -> None:
    """Samples of 8 tokens, in a model with a context of 64."""
    admit(Echo)
    run = echo_run(watch={"peak_tflops": 0.5, "every": None})
    run["model"]["context_length"] = 64
    gptzoo.train(run, tmp_path / "run", quiet=True)
    d, vocab_size, length = 16, 6, 8
    flops = 6 * (12 * d * d + vocab_size * d) + 12 * length * d
    for row in read_metrics(tmp_path / "run" / "metrics.jsonl")[1:]:
        assert row["mfu"] == pytest.approx(row["tokens_per_second"] * flops / 0.5e12, rel=0.01)
    costs = CostCache().costs(gptzoo.load_run_spec(tmp_path / "run" / "run.json"))
    assert costs.flops_per_token == pytest.approx(flops, rel=0.01)


def test_the_measurements_of_watch_count_in_no_step(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, a step lasts from one gradient to the next, and what lies between them would count."""
    pauses = []
    monkeypatch.setattr(StepTimer, "pause", lambda timer: pauses.append(timer))
    run = {**run_spec, "steps": 12, "eval": {"every": 12}, "checkpoint": {"every": 12}}
    gptzoo.train({**run, "watch": {"every": None}}, tmp_path / "without", quiet=True)
    n_without = len(pauses)
    gptzoo.train({**run, "watch": {"every": 5}}, tmp_path / "with", quiet=True)
    assert len(pauses) - n_without == n_without + 2  # after steps 5 and 10


def test_there_is_no_mfu_if_peak_flops_are_unknown(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    assert not column(tmp_path / "run", "mfu")


def test_peak_flops_are_found_by_torchs_gpu_names() -> None:
    assert peak_flops_of("NVIDIA H100 80GB HBM3", "bf16") == 989.5e12
    assert peak_flops_of("NVIDIA H100 PCIe", "bf16") == 756e12
    assert peak_flops_of("NVIDIA A100-SXM4-80GB", "fp16") == 312e12
    assert peak_flops_of("NVIDIA GeForce GT 710", "bf16") is None
    assert peak_flops_of("NVIDIA GH200 480GB", "bf16") == 989.5e12
    assert peak_flops_of("NVIDIA L4", "bf16") == 121e12
    assert peak_flops_of("NVIDIA L40", "bf16") is None  # not an L4


def test_memory_is_the_peak_memory_of_the_process(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train({**run_spec, "watch": {"every": 6}}, tmp_path / "run", quiet=True)
    memory = column(tmp_path / "run", "memory_gib")
    assert list(memory) == [6, 12]
    status = Path("/proc/self/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert memory[12] == pytest.approx(peak_kib / 2**20, rel=0.05)


def test_attention_entropy_is_the_entropy_of_the_weights() -> None:
    model = gptzoo.build(small(attention=["sdpa", "naive"]), seed=1)
    tokens = torch.randint(13, (3, 16), generator=torch.Generator().manual_seed(1))
    batch = {"tokens": tokens.numpy(), "targets": tokens.numpy()}
    entropies = attention_entropy(model, batch, precision="fp32")
    auxiliary = gptzoo.AuxiliaryOutputs()
    with torch.no_grad():
        model.eval()(tokens, capture=("attention",), auxiliary=auxiliary)
    for layer in range(2):
        weights = auxiliary.captures[f"blocks.{layer}.attention.attention"].double()
        expected = -(weights * weights.clamp(min=1e-300).log()).sum(-1).mean().item()
        assert entropies[f"blocks.{layer}.attention"] == pytest.approx(expected, rel=1e-5)
        assert 0 < expected < math.log(16)


def test_attention_entropy_is_logged_at_each_evaluation(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    for layer in range(2):
        entropies = column(tmp_path / "run", f"attention_entropy/blocks.{layer}.attention")
        assert list(entropies) == list(column(tmp_path / "run", "val/loss"))
        assert all(0 < value < math.log(16) for value in entropies.values())


class WithMetrics(gptzoo.FeedForward):
    """A network without effect, with a list and a number as metrics."""

    name = "with_metrics"

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: Any = None) -> gptzoo.SublayerOutput:
        return gptzoo.SublayerOutput(x * 0, metrics={"load": torch.tensor([0.25, 0.75]), "peak": x.new_tensor(2.0)})


def test_metrics_of_a_component_reach_metrics_jsonl_and_trackers(
    fresh_registry: registry.Registry, run_spec: dict[str, Any], tmp_path: Path
) -> None:
    admit(WithMetrics)
    run_spec["model"]["ffn"] = "with_metrics"
    gptzoo.train({**run_spec, "trackers": ["csv"]}, tmp_path / "run", quiet=True)
    assert column(tmp_path / "run", "model/blocks.1.ffn.load") == {step: [0.25, 0.75] for step in range(1, 13)}
    header = (tmp_path / "run" / "metrics.csv").read_text().partition("\n")[0].split(",")
    assert {"model/blocks.0.ffn.load.0", "model/blocks.0.ffn.load.1", "model/blocks.0.ffn.peak"} <= set(header)

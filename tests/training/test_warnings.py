"""Warnings of a run: at its start, in its folder, and about weights that training did not change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import gptzoo
from gptzoo.training.weight_changes import InitialWeights


def warnings_of(folder: Path) -> dict[str, list[str]]:
    file = folder / "warnings.json"
    return json.loads(file.read_text()) if file.exists() else {}


def weights_at(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def test_a_warmup_longer_than_the_run_is_printed_and_kept(
    run_spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_spec["schedule"]["warmup_steps"] = 30
    result = gptzoo.train(run_spec, tmp_path / "run")
    lrs = [json.loads(line).get("lr", 0.0) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    share = max(lrs) / 0.01
    assert share == pytest.approx(12 / 31)
    (warning,) = warnings_of(tmp_path / "run")["learning_rate"]
    assert f"{share:.3g} of the peak" in warning
    assert f"WARNING: {warning}" in capsys.readouterr().err
    assert list(result.warnings) == [warning]


def test_a_run_that_is_long_enough_has_no_warning(run_spec: dict[str, Any], tmp_path: Path) -> None:
    assert not gptzoo.train(run_spec, tmp_path / "run", quiet=True).warnings
    assert not (tmp_path / "run" / "warnings.json").exists()


def test_a_longer_run_no_longer_has_the_warning(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec |= {"steps": 4, "schedule": {"type": "cosine", "warmup_steps": 5}}
    assert gptzoo.train(run_spec, tmp_path / "run", quiet=True).warnings
    run_spec["steps"] = 12
    assert not gptzoo.train(run_spec, tmp_path / "run", extend=True, quiet=True).warnings
    assert not (tmp_path / "run" / "warnings.json").exists()


def test_a_learning_rate_that_jumps_when_a_run_is_extended_is_reported(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    run_spec["steps"] = 24
    (warning,) = gptzoo.train(run_spec, tmp_path / "run", extend=True, quiet=True).warnings
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert f"jumps from {rows[12]['lr']:.3g} to {rows[13]['lr']:.3g} at step 12" in warning
    assert rows[13]["lr"] > 3 * rows[12]["lr"]


def test_the_jump_is_still_reported_after_another_resume(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    run_spec["steps"] = 24
    first = gptzoo.train(run_spec, tmp_path / "run", extend=True, quiet=True, until=14).warnings
    assert len(first) == 1
    assert gptzoo.train(run_spec, tmp_path / "run", resume=True, quiet=True).warnings == first


def test_an_early_stop_before_the_decay_is_reported(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec |= {"steps": 40, "early_stopping": {"patience": 1, "min_delta": 100.0}}
    result = gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert result.steps == 5
    (warning,) = warnings_of(tmp_path / "run")["early_stopping"]
    assert f"at step 5 of 40, where the learning rate was at {rows[-1]['lr'] / 0.01:.2g} of its peak" in warning
    assert list(result.warnings) == [warning]


def test_a_run_with_a_fraction_is_the_run_with_as_many_steps(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["schedule"] = {"type": "cosine", "warmup_steps": 3}
    gptzoo.train(run_spec, tmp_path / "steps", quiet=True)
    run_spec["schedule"] = {"type": "cosine", "warmup_fraction": 0.25}
    gptzoo.train(run_spec, tmp_path / "fraction", quiet=True, until=5)
    gptzoo.train(run_spec, tmp_path / "fraction", quiet=True, resume=True)
    by_steps, by_fraction = (weights_at(tmp_path / name, 12) for name in ("steps", "fraction"))
    assert all(by_steps[name].equal(by_fraction[name]) for name in by_steps)


@pytest.mark.parametrize("until", [None, 8])
def test_weights_that_training_never_changed_are_reported_in_a_resumed_run_too(
    run_spec: dict[str, Any], tmp_path: Path, until: int | None
) -> None:
    """A learning rate per layer so small that float32 rounds the updates of the lower layers away."""
    run_spec["optimizer"] = {"type": "adamw", "lr": 0.01, "layer_lr_decay": 1e-9}
    initial = {name: p.detach().clone() for name, p in named_initial_weights(run_spec).items()}
    if until is not None:
        gptzoo.train(run_spec, tmp_path / "run", quiet=True, until=until)
    result = gptzoo.train(run_spec, tmp_path / "run", quiet=True, resume=until is not None)
    final = weights_at(tmp_path / "run", 12)
    unchanged = [name for name, w in initial.items() if (final[name] - w).norm() < 1e-7 * w.norm()]
    assert "embed.weight" in unchanged
    early, warning = result.warnings
    assert early.startswith("3 of 5 parameter groups have a peak learning rate below 1e-10, the lowest 1e-20")
    assert warning.startswith(f"{len(unchanged)} of {len(initial)} trained parameters have their initial values")
    assert all(name in warning for name in unchanged[:6])


def named_initial_weights(run_spec: dict[str, Any]) -> dict[str, nn.Parameter]:
    model = gptzoo.build({**run_spec["model"], "vocab_size": 257}, seed=1)
    return dict(model.named_parameters())


def test_a_run_that_trains_nothing_says_so_after_the_first_step(
    run_spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_spec["optimizer"] = {"type": "sgd", "lr": 1e-9, "momentum": 0.0}
    run_spec["clip_norm"] = 1e-6
    gptzoo.train(run_spec, tmp_path / "run")
    lines = [line for line in capsys.readouterr().err.splitlines() if "nothing is trained" in line]
    assert [line.partition(" changed")[0] for line in lines] == [
        "WARNING: nothing is trained: 1 step",
        "WARNING: nothing is trained: 12 steps",
    ]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["val/loss"] == pytest.approx(rows[0]["val/loss"], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_changes_are_relative_to_the_initial_values(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = {
        "large": nn.Parameter(torch.randn(300, 64, generator=generator).to(dtype)),
        "small": nn.Parameter(torch.randn(5, generator=generator).to(dtype)),
        "frozen": nn.Parameter(torch.zeros(7, dtype=dtype)),
    }
    initial = InitialWeights(parameters)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    with torch.no_grad():
        parameters["large"].mul_(1.5)
        parameters["small"][3] += 0.25
    changes = initial.changes()
    distance = sum((p.detach() - before[name]).double().square().sum() for name, p in parameters.items()) ** 0.5
    norm = sum(b.double().square().sum() for b in before.values()) ** 0.5
    assert changes.relative == pytest.approx(float(distance / norm), rel=0.05)  # the large tensor is sampled
    assert (list(changes.unchanged), changes.n_parameters) == (["frozen"], 3)
    assert not changes.is_nothing


def test_a_change_below_the_precision_of_float32_counts_as_none() -> None:
    parameters = {"weight": nn.Parameter(torch.ones(10, 10)), "bias": nn.Parameter(torch.zeros(10))}
    initial = InitialWeights(parameters)
    with torch.no_grad():
        parameters["bias"] += 1e-12
    changes = initial.changes()
    assert list(changes.unchanged) == ["weight"]
    assert changes.is_nothing
    assert changes.relative == pytest.approx((10 * 1e-24 / 100) ** 0.5)

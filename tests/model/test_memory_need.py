"""Models that cannot fit into memory are refused before any of it is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

import gptzoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.errors import InputError
from gptzoo.model import memory_need
from gptzoo.training import memory_need as run_memory_need

WIDTH = 2**20  # 12 matrices of this width squared have 13 T parameters, more than any machine of today holds
HUGE: dict[str, Any] = {
    "vocab_size": 257, "context_length": 8, "d_model": WIDTH, "n_layers": 1, "n_heads": 1024, "positional": "none",
    "norm": {"type": "pre_ln", "layer": "rmsnorm"}, "bias": False,
}  # fmt: skip
N_HUGE = 12 * WIDTH**2 + 257 * WIDTH + 3 * WIDTH  # attention 4, feed-forward network 8; embedding; three norms
SMALL = {**HUGE, "d_model": 16, "n_heads": 2}
RUN: dict[str, Any] = {"steps": 1, "batch_size": 2, "corpus": {"type": "stories", "n_stories": 20}, "device": "cpu"}


def gptzoo_command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def tiny_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 1 kB of memory: what fits into a real one cannot be too large for it in a test."""
    for module in (memory_need, run_memory_need):
        monkeypatch.setattr(module, "total_bytes", lambda device: 1000)


def test_building_weights_that_cannot_fit_is_refused_with_both_sizes() -> None:
    with pytest.raises(InputError) as error:
        gptzoo.build(HUGE)
    assert f"{N_HUGE:,} parameters needs about {4 * N_HUGE / 1e12:.3g} TB of memory, and this machine has " in str(
        error.value
    )


def test_a_micro_batch_that_cannot_fit_is_refused_before_the_run_folder_is_made(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({**RUN, "model": SMALL}))
    arguments = ("train", tmp_path / "run.json", "--out", tmp_path / "out", "--set", "batch_size=100000000000")
    result = gptzoo_command(*arguments)
    assert result.exit_code == 2, result.output
    assert "a micro-batch of 100,000,000,000 sequences of " in result.output
    assert "Choose a smaller micro_batch_size" in result.output
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize(
    ("optimizer", "bytes_per_parameter"),
    [("adamw", 16), ({"type": "sgd", "lr": 0.1, "momentum": 0.0}, 8), ({"type": "sgd", "lr": 0.1}, 12)],
)
def test_training_counts_weights_gradients_and_the_state_of_the_optimizer(
    tmp_path: Path, optimizer: Any, bytes_per_parameter: int
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({**RUN, "model": HUGE, "optimizer": optimizer}))
    result = gptzoo_command("train", tmp_path / "run.json", "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert f"needs about {bytes_per_parameter * N_HUGE / 1e12:.3g} TB of memory" in result.output
    assert "--allow-oversize" in result.output
    assert not (tmp_path / "out" / "run.json").exists()


def test_frozen_parameters_have_neither_gradients_nor_state(tmp_path: Path) -> None:
    n_attention = 4 * WIDTH**2
    with pytest.raises(InputError, match=f"gradients {4 * n_attention / 1e12:.3g} TB"):
        gptzoo.train({**RUN, "model": HUGE, "train_only": ["blocks.*.attention"]}, tmp_path / "out", quiet=True)


def test_allow_oversize_goes_on(tmp_path: Path, tiny_machine: None) -> None:
    (tmp_path / "run.json").write_text(json.dumps({**RUN, "model": SMALL}))
    (tmp_path / "model.json").write_text(json.dumps(SMALL))
    commands = [
        ("train", tmp_path / "run.json", "--bare", "--out", tmp_path / "run"),
        ("build", tmp_path / "model.json", "--out", tmp_path / "model"),
    ]
    for command in commands:
        refused = gptzoo_command(*command)
        assert refused.exit_code == 2
        assert "this machine has 1 kB" in refused.output
    with pytest.raises(InputError, match="this machine has 1 kB"):
        gptzoo.build(SMALL)
    assert gptzoo.build(SMALL, allow_oversize=True).spec.d_model == 16
    assert gptzoo_command(*commands[1], "--allow-oversize").exit_code == 0


def test_a_saved_model_that_cannot_fit_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "model", gptzoo.build(SMALL))
    assert gptzoo.load(tmp_path / "model").spec.d_model == 16
    monkeypatch.setattr(memory_need, "total_bytes", lambda device: 1000)
    with pytest.raises(InputError, match="loading this model needs about"):
        gptzoo.load(tmp_path / "model")


def test_the_meta_device_holds_models_of_any_size() -> None:
    assert sum(parameter.numel() for parameter in gptzoo.build(HUGE, device="meta").parameters()) == N_HUGE


def test_the_device_counts_as_well_as_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"cpu": 10**9, "cuda": 1000}
    monkeypatch.setattr(memory_need, "total_bytes", lambda device: sizes[device.type])
    memory_need.check_fits(999, torch.device("cuda"), "x")
    with pytest.raises(InputError, match="device cuda has 1 kB"):
        memory_need.check_fits(1001, torch.device("cuda"), "x")

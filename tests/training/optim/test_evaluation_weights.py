"""An optimizer that evaluates other weights than it trains: evaluations, hooks, checkpoints and samples have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Killed, assert_same_run, die_at
from safetensors.torch import load_file
from support import admit
from torch import Tensor, nn

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.checkpoints import newest_valid_checkpoint
from gptzoo.errors import FolderError
from gptzoo.training.evaluation_weights import swapped_in
from gptzoo.training.run.checkpoint_state import load_trained_weights
from gptzoo.training.run.metrics_file import read_metrics

NAME = "blocks.0.attention.qkv.weight"


class Averaging(torch.optim.SGD):
    """Gradient descent that keeps the mean of all weights so far, as Polyak and Ruppert do."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["n"] = state.get("n", 0) + 1
                mean = state.setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter, 1 / state["n"])


class AveragedSGD(gptzoo.GroupedOptimizer):
    """Averaged gradient descent: the mean of all weights so far is evaluated."""

    name = "averaged_sgd"

    class Config(gptzoo.GroupedOptimizer.Config):
        lr: float = 0.5
        weight_decay: float = 0.0

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return Averaging(self.groups(parameters), lr=self.config.lr)

    def evaluation_weights(
        self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
    ) -> Mapping[str, Tensor] | None:
        if not any(optimizer.state.values()):
            return None
        return {name: optimizer.state[parameter]["mean"] for name, parameter in parameters.items()}


class Observer:
    """A plugin that records a weight at each step and at each evaluation."""

    def __init__(self) -> None:
        self.trained: list[Tensor] = []
        self.evaluated: list[Tensor] = []

    @gptzoo.hookimpl
    def gptzoo_step(self, model: Any) -> None:
        self.trained.append(model.get_parameter(NAME).detach().clone())

    @gptzoo.hookimpl
    def gptzoo_eval(self, model: Any) -> None:
        self.evaluated.append(model.get_parameter(NAME).detach().clone())


@pytest.fixture
def spec(run_spec: dict[str, Any], fresh_registry: registry.Registry) -> dict[str, Any]:
    admit(AveragedSGD)
    return {**run_spec, "optimizer": "averaged_sgd"}


def checkpoint_of(run: Path) -> Path:
    checkpoint = newest_valid_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return checkpoint


def test_evaluations_hooks_and_checkpoints_have_the_mean_of_all_weights(spec: dict[str, Any], tmp_path: Path) -> None:
    observer = Observer()
    registry.current().admit(observer, registry.Origin("observer", "observer", "1"))
    gptzoo.train({**spec, "eval": {"every": 4}}, tmp_path / "run", quiet=True)
    assert len(observer.trained) == 12
    for index, step in ((1, 4), (2, 8), (3, 12)):  # the first evaluation is before step 1
        mean = torch.stack(observer.trained[:step]).double().mean(0).float()
        torch.testing.assert_close(observer.evaluated[index], mean, rtol=1e-4, atol=1e-6)
    checkpoint = checkpoint_of(tmp_path / "run")
    assert torch.equal(load_file(checkpoint / "model.safetensors")[NAME], observer.evaluated[-1])
    assert torch.equal(load_file(checkpoint / "trained.safetensors")[NAME], observer.trained[-1])


def test_a_tracker_alone_needs_no_weights_for_evaluation(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are computed for hooks, which may read the model."""
    calls = []
    original = AveragedSGD.evaluation_weights

    def counted(self: AveragedSGD, *arguments: Any) -> Any:
        calls.append(arguments)
        return original(self, *arguments)

    monkeypatch.setattr(AveragedSGD, "evaluation_weights", counted)
    gptzoo.train(spec, tmp_path / "without", quiet=True)
    n_without = len(calls)
    gptzoo.train({**spec, "trackers": ["csv"]}, tmp_path / "with", quiet=True)
    assert len(calls) == 2 * n_without


def test_the_loss_of_the_run_is_that_of_the_loaded_model(spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(spec, tmp_path / "run", quiet=True)
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "val/loss" in row]
    assert gptzoo.evaluate(tmp_path / "run").likelihood.loss == rows[-1]["val/loss"]


def test_the_number_of_evaluations_does_not_change_training(spec: dict[str, Any], tmp_path: Path) -> None:
    for every in (1, 12):
        gptzoo.train(
            {**spec, "eval": {"every": every}, "checkpoint": {"every": every}}, tmp_path / f"{every}", quiet=True
        )
    a, b = (load_file(checkpoint_of(tmp_path / f"{every}") / "trained.safetensors") for every in (1, 12))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_killed_and_resumed_run_is_the_same(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gptzoo.train(spec, tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        die_at(patch, 10)
        with pytest.raises(Killed):
            gptzoo.train(spec, tmp_path / "killed", quiet=True)
    gptzoo.train(spec, tmp_path / "killed", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_samples_are_generated_with_the_weights_for_evaluation(spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(spec, tmp_path / "run", quiet=True)
    saved = load_file(checkpoint_of(tmp_path / "run") / "model.safetensors")
    assert torch.equal(gptzoo.load(tmp_path / "run").model.get_parameter(NAME), saved[NAME])


def test_trained_weights_of_another_model_are_refused(spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train(spec, tmp_path / "run", quiet=True)
    with pytest.raises(FolderError, match=r"trained\.safetensors: .* is not part of the model"):
        load_trained_weights({"other": nn.Parameter(torch.ones(1))}, checkpoint_of(tmp_path / "run"))


def test_other_optimizers_write_no_second_weights(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train({**run_spec, "steps": 2}, tmp_path / "run", quiet=True)
    assert not (checkpoint_of(tmp_path / "run") / "trained.safetensors").exists()


def test_weights_are_swapped_in_and_restored_even_after_an_error() -> None:
    parameters = {"a": nn.Parameter(torch.ones(2)), "b": nn.Parameter(torch.full((1,), 5.0))}

    def fail() -> None:
        with swapped_in(parameters, {"a": torch.full((2,), 3.0)}) as trained:
            assert parameters["a"].tolist() == [3.0, 3.0]
            assert parameters["b"].tolist() == [5.0]
            assert trained is not None
            assert trained["a"].tolist() == [1.0, 1.0]
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert parameters["a"].tolist() == [1.0, 1.0]
    with swapped_in(parameters, None) as trained:
        assert trained is None

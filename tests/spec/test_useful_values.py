"""Values with which a run would train nothing are refused, with the reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import PositiveFloat

import gptzoo
from gptzoo.errors import SpecError
from gptzoo.training.optim.optimizers import MIN_LR, Optimizer

MODEL = {"context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2, "vocab_size": 20}


def refusal(**changes: Any) -> str:
    with pytest.raises(SpecError) as error:
        gptzoo.load_run_spec({"model": MODEL, "steps": 10, **changes})
    return str(error.value)


@pytest.mark.parametrize("name", ["adamw", "sgd", "adafactor", "lion", "muon"])
@pytest.mark.parametrize("lr", [1e-300, 1e-45, 0.9e-10])
def test_a_learning_rate_that_changes_no_weight_is_refused(name: str, lr: float) -> None:
    assert f"$.optimizer.lr: trains nothing: updates of {lr:g}" in refusal(optimizer={"type": name, "lr": lr})


def test_the_lowest_learning_rate_is_below_the_resolution_of_an_ordinary_weight() -> None:
    weight = torch.tensor(0.02)
    assert torch.equal(weight - MIN_LR, weight)


def test_the_second_learning_rate_of_muon_is_checked_too() -> None:
    assert "$.optimizer.adamw_lr: trains nothing" in refusal(optimizer={"type": "muon", "adamw_lr": 1e-20})


def test_an_optimizer_of_a_plugin_is_checked_too() -> None:
    class Mine(Optimizer):
        name = "mine"

        class Config(Optimizer.Config):
            lr: PositiveFloat = 0.1

    assert Mine.Config(lr=1e-3).lr == 1e-3
    with pytest.raises(ValueError, match="trains nothing"):
        Mine.Config(lr=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "path", "factor"),
    [
        ({"type": "adamw", "lr": 0.001, "weight_decay": 1000.0}, "weight_decay", "0"),
        ({"type": "lion", "lr": 0.5, "weight_decay": 4.0}, "weight_decay", "-1"),
        ({"type": "muon", "adamw_lr": 0.01, "adamw_weight_decay": 150.0}, "adamw_weight_decay", "-0.5"),
    ],
)
def test_a_weight_decay_that_erases_the_weights_is_refused(optimizer: dict[str, Any], path: str, factor: str) -> None:
    message = refusal(optimizer=optimizer)
    assert f"$.optimizer.{path}: erases the weights" in message
    assert f" = {factor}. Use less than" in message


@pytest.mark.parametrize("clip_norm", [1e-300, 1e-30, 0.9e-6])
def test_a_clip_norm_that_leaves_no_gradient_is_refused(clip_norm: float) -> None:
    assert "$.clip_norm: trains nothing" in refusal(clip_norm=clip_norm)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"optimizer": {"type": "adamw", "eps": 1e10}}, "optimizer.eps"),
        ({"optimizer": {"type": "adamw", "eps": 1e-300}}, "optimizer.eps"),
        ({"optimizer": {"type": "adafactor", "min_scale": 1e-30}}, "optimizer.min_scale"),
        ({"label_smoothing": 0.9999}, "label_smoothing"),
        ({"model": {**MODEL, "architecture": {"type": "decoder", "init_std": 1e-300}}}, "init_std"),
        ({"model": {**MODEL, "architecture": {"type": "decoder", "init_std": 1e30}}}, "init_std"),
        ({"model": {**MODEL, "norm": {"type": "pre_ln", "layer": {"type": "rmsnorm", "eps": 1e30}}}}, "eps"),
    ],
)
def test_other_options_have_bounds_beyond_which_nothing_is_trained(changes: dict[str, Any], path: str) -> None:
    message = refusal(**changes)
    assert path in message
    assert "should be" in message


def test_adam_without_an_eps_in_float32_makes_weights_without_a_gradient_nan() -> None:
    """The reason for the lower bound of eps."""
    for eps, is_finite in ((1e-30, True), (1e-300, False)):
        weight = torch.nn.Parameter(torch.ones(4))
        weight.grad = torch.tensor([0.0, 1.0, 1.0, 1.0])
        torch.optim.AdamW([weight], eps=eps, fused=True).step()
        assert bool(weight.isfinite().all()) == is_finite

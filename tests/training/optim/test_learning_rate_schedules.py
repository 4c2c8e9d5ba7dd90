"""Schedules compared with transformers and with the formulas of the papers, for every step of a run."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gptzoo import registry
from gptzoo.training.optim.learning_rate_schedules import Constant, Cosine, InverseSqrt, Linear, WarmupStableDecay

N_STEPS, WARMUP = 60, 10


def factors(schedule: Any, n_steps: int = N_STEPS) -> list[float]:
    return [schedule.lr_factor(step) for step in range(n_steps)]


def transformers_factors(make: Any, *arguments: Any, n_steps: int = N_STEPS, **options: Any) -> list[float]:
    """Return the learning rates of a schedule of transformers with the peak 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer, *arguments, **options)
    lrs = []
    for _ in range(n_steps):
        lrs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return lrs


@pytest.mark.parametrize("warmup", [0, WARMUP])
def test_schedules_after_warmup_equal_those_of_transformers(warmup: int) -> None:
    hf = pytest.importorskip("transformers.optimization")
    pairs = [
        (
            Cosine.Config(warmup_steps=warmup, min_ratio=0.0),
            transformers_factors(hf.get_cosine_schedule_with_warmup, warmup, N_STEPS),
        ),
        (
            Cosine.Config(warmup_steps=warmup, min_ratio=0.2),
            transformers_factors(hf.get_cosine_with_min_lr_schedule_with_warmup, warmup, N_STEPS, min_lr_rate=0.2),
        ),
        (Linear.Config(warmup_steps=warmup), transformers_factors(hf.get_linear_schedule_with_warmup, warmup, N_STEPS)),
        (
            Linear.Config(warmup_steps=warmup, min_ratio=0.3),
            transformers_factors(hf.get_polynomial_decay_schedule_with_warmup, warmup, N_STEPS, lr_end=0.3, power=1.0),
        ),
        (Constant.Config(warmup_steps=warmup), transformers_factors(hf.get_constant_schedule_with_warmup, warmup)),
    ]
    for config, expected in pairs:
        assert factors(config.build(N_STEPS))[warmup:] == pytest.approx(expected[warmup:]), config


@pytest.mark.parametrize("decay", ["linear", "1-sqrt"])
@pytest.mark.parametrize("min_ratio", [0.0, 0.25])
@pytest.mark.parametrize("n_decay", [1, 10, 50])
def test_warmup_stable_decay_equals_that_of_transformers(decay: str, min_ratio: float, n_decay: int) -> None:
    hf = pytest.importorskip("transformers.optimization")
    config = WarmupStableDecay.Config(
        warmup_steps=WARMUP, decay_fraction=n_decay / (N_STEPS - WARMUP), decay=decay, min_ratio=min_ratio
    )
    expected = transformers_factors(
        hf.get_wsd_schedule, WARMUP, n_decay, num_training_steps=N_STEPS, decay_type=decay, min_lr_ratio=min_ratio
    )
    # The root is steep where the decay begins: a rounding error of 1e-16 becomes 1e-8 in the factor.
    assert factors(config.build(N_STEPS))[WARMUP:] == pytest.approx(expected[WARMUP:], abs=1e-7)


def test_the_stable_phase_does_not_depend_on_the_length_of_the_run() -> None:
    config = WarmupStableDecay.Config(warmup_steps=WARMUP, decay_fraction=0.5)
    short, long = factors(config.build(N_STEPS)), factors(config.build(10 * N_STEPS), 10 * N_STEPS)
    assert short[:35] == long[:35]
    assert short[36] < 1 == long[36]


def test_inverse_sqrt_equals_the_formula_of_the_paper() -> None:
    """d_model^-0.5 min(t^-0.5, t warmup^-1.5) divided by its peak, with t counted from 1."""
    warmup, d_model = 16, 512
    lrs = [d_model**-0.5 * min(t**-0.5, t * warmup**-1.5) for t in range(1, N_STEPS + 1)]
    actual = factors(InverseSqrt.Config(warmup_steps=warmup - 1).build(N_STEPS))
    assert actual == pytest.approx([lr / max(lrs) for lr in lrs])
    assert actual[warmup - 1] == 1
    assert actual[4 * warmup - 8] == pytest.approx(math.sqrt(16 / 57))


def test_inverse_sqrt_equals_that_of_transformers_from_its_second_step_on() -> None:
    """The first step of transformers has the learning rate 0."""
    hf = pytest.importorskip("transformers.optimization")
    expected = transformers_factors(hf.get_inverse_sqrt_schedule, WARMUP + 1, n_steps=N_STEPS + 1)
    assert factors(InverseSqrt.Config(warmup_steps=WARMUP).build(N_STEPS)) == pytest.approx(expected[1:])


@pytest.mark.parametrize("name", registry.discover("none").of_kind("schedule"))
def test_every_schedule_rises_linearly_to_a_peak_of_one(name: str) -> None:
    config: Any = registry.discover("none").get("schedule", name).Config
    actual = factors(config(warmup_steps=WARMUP).build(N_STEPS))
    assert actual[:WARMUP] == pytest.approx([(step + 1) / (WARMUP + 1) for step in range(WARMUP)])
    assert actual[WARMUP] == 1
    assert max(actual) == 1

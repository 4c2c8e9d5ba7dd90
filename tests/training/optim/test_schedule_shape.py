"""Warnings about runs that are too short for their schedule, from the factors of built-in and other schedules."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import Field, PositiveInt, ValidationError

from gptzoo import registry
from gptzoo.training.optim.learning_rate_schedules import Cosine, Schedule, WarmupStableDecay
from gptzoo.training.optim.schedule_shape import schedule_shape, schedule_warnings, unequal_shares

BUILT_IN = registry.discover("none").of_kind("schedule")


def config_of(name: str, **options: Any) -> Any:
    return BUILT_IN[name].Config(**options)


class StepwiseDecay(Schedule):
    """A schedule of a plugin with an absolute number of decay steps and another name for its warmup."""

    name = "stepwise"

    class Config(Schedule.Config):
        ramp: int = 0
        decay_steps: PositiveInt = 1000

    config: Config

    def lr_factor(self, step: int) -> float:
        if step < self.config.ramp:
            return (step + 1) / (self.config.ramp + 1)
        return max(0.0, 1 - (step - self.config.ramp) / self.config.decay_steps)


class LearningRateFinder(Schedule):
    """A schedule that rises over the whole run by design."""

    name = "finder"

    def after_warmup(self, progress: float) -> float:
        return progress


class OwnFraction(Schedule):
    """A schedule of a plugin that had an option with the name `warmup_fraction` before gptzoo did."""

    name = "own_fraction"

    class Config(Schedule.Config):
        warmup_fraction: float = Field(default=0.5, ge=0.0, le=1.0)  # type: ignore[assignment]

    config: Config

    def after_warmup(self, progress: float) -> float:
        return min(1.0, progress / self.config.warmup_fraction)  # type: ignore[operator]


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_warmup_longer_than_the_run_is_reported_with_the_factor_that_it_reaches(name: str) -> None:
    (warning,) = schedule_warnings(config_of(name, warmup_steps=50), 20)
    assert "never reaches its peak in 20 steps" in warning
    assert f"gets to {20 / 51:.3g} of the peak" in warning


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize(("warmup", "n_steps"), [(20, 20), (19, 20), (1000, 1000), (999, 1000), (60_000, 60_001)])
def test_a_warmup_up_to_the_last_step_is_reported(name: str, warmup: int, n_steps: int) -> None:
    assert len(schedule_warnings(config_of(name, warmup_steps=warmup), n_steps)) == 1


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_warmup_over_most_of_the_run_is_reported_with_its_steps(name: str) -> None:
    warnings = schedule_warnings(config_of(name, warmup_steps=60_000), 100_000)
    assert "rises for 60,000 of 100,000 steps (60%)" in warnings[0]


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("warmup", [0, 10, 100])
@pytest.mark.parametrize("n_steps", [250, 3000, 100_000])
def test_an_ordinary_run_has_no_warning(name: str, warmup: int, n_steps: int) -> None:
    assert schedule_warnings(config_of(name, warmup_steps=warmup), n_steps) == []


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("n_steps", [1, 2, 3, 20, 1000])
def test_a_warmup_by_fraction_always_reaches_the_peak(name: str, n_steps: int) -> None:
    for fraction in (0.0, 0.1, 0.5, 0.9, 0.999):
        assert schedule_shape(config_of(name, warmup_fraction=fraction), n_steps).peak == 1


def test_a_decay_that_is_too_short_for_a_step_is_reported() -> None:
    config = WarmupStableDecay.Config(decay_fraction=0.2)  # a fifth of five steps begins at the end of the last one
    assert [config.build(5).lr_factor(step) for step in range(5)] == [1.0] * 5
    (warning,) = schedule_warnings(config, 5)
    assert "no time to decay in 5 steps: it stays at the peak" in warning


def test_schedules_of_plugins_are_judged_by_their_factors() -> None:
    StepwiseDecay.Config.component = StepwiseDecay
    (warning,) = schedule_warnings(StepwiseDecay.Config(ramp=30, decay_steps=100), 20)
    assert f"gets to {20 / 31:.3g} of the peak" in warning
    (warning,) = schedule_warnings(StepwiseDecay.Config(decay_steps=1000), 100)
    assert f"it falls to {1 - 99 / 1000:.2g} of the peak, and in a long run it falls to 0 of it" in warning
    assert schedule_warnings(StepwiseDecay.Config(ramp=10, decay_steps=100), 100) == []


def test_a_schedule_that_rises_over_the_whole_run_by_design_has_no_warning() -> None:
    assert schedule_warnings(LearningRateFinder.Config(), 100) == []


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("n_steps", [10, 87, 500, 2000])
def test_a_fraction_gives_the_factors_of_as_many_steps(name: str, n_steps: int) -> None:
    by_fraction = config_of(name, warmup_fraction=0.3).build(n_steps)
    by_steps = config_of(name, warmup_steps=round(0.3 * n_steps)).build(n_steps)
    assert [by_fraction.lr_factor(s) for s in range(n_steps)] == [by_steps.lr_factor(s) for s in range(n_steps)]


def test_a_schedule_of_a_plugin_inherits_the_fraction_by_reading_warmup_steps() -> None:
    class Sawtooth(Schedule):
        name = "sawtooth"

        def lr_factor(self, step: int) -> float:
            return min(1.0, (step + 1) / (self.config.warmup_steps + 1))

    factors = [Sawtooth(Sawtooth.Config(warmup_fraction=0.25), 40).lr_factor(step) for step in range(40)]
    assert factors == [min(1.0, (step + 1) / 11) for step in range(40)]


def test_an_option_of_a_plugin_with_the_same_name_keeps_its_meaning() -> None:
    schedule = OwnFraction.Config(warmup_steps=10).build(30)
    assert [schedule.lr_factor(step) for step in range(30)] == [
        (step + 1) / 11 if step < 10 else min(1.0, (step - 10) / 20 / 0.5) for step in range(30)
    ]


def test_steps_and_fraction_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match=r"cannot be combined with warmup_steps 5\. Set warmup_steps to 0"):
        Cosine.Config(warmup_steps=5, warmup_fraction=0.1)


def test_a_spec_without_a_fraction_has_the_json_that_it_always_had() -> None:
    assert Cosine.Config(warmup_steps=5).model_dump(mode="json") == {
        "type": "cosine",
        "warmup_steps": 5,
        "min_ratio": 0.1,
    }
    config = Cosine.Config(warmup_fraction=0.1)
    assert Cosine.Config.model_validate(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize("name", BUILT_IN)
def test_runs_of_different_lengths_have_different_warmups_in_steps_and_equal_ones_in_fractions(name: str) -> None:
    warning = unequal_shares(config_of(name, warmup_steps=15), {"short": 16, "long": 87})
    assert "15 of 87 steps (17%) of long, and 15 of 16 steps (94%) of short" in warning
    assert not unequal_shares(config_of(name, warmup_steps=15), {"a": 87, "b": 87})
    assert not unequal_shares(config_of(name, warmup_fraction=0.17), {"short": 16, "long": 87})


def test_a_decay_that_depends_on_the_number_of_steps_is_reported() -> None:
    warning = unequal_shares(config_of("inverse_sqrt"), {"short": 16, "long": 87})
    assert f"{1 / math.sqrt(16):.2g} of its peak in short (16 steps)" in warning
    assert not unequal_shares(config_of("wsd"), {"short": 16, "long": 87})

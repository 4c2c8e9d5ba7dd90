"""Schedules that are wrong in long runs, after a long warmup, or when a run is resumed."""

from __future__ import annotations

import math

from pydantic import Field, field_serializer

from gptzoo.training.optim.learning_rate_schedules import Constant, Cosine, Linear, Schedule

from .table import caught_by


@caught_by("warmup")
class ShortWarmup(Cosine):
    """Cosine decay. Wrong: the warmup is counted in a table of 100 steps, and a longer one jumps to the peak."""

    name = "short_warmup"

    def lr_factor(self, step):
        if 100 <= step < self.config.warmup_steps:
            return 1.0
        return super().lr_factor(step)


class Sigmoid(Schedule):
    """Decay along a logistic curve around the middle of the run."""

    name = "sigmoid"

    class Config(Schedule.Config):
        steepness: float = Field(default=10.0, gt=0.0, le=100.0)
        """Slope of the curve in the middle of the run, as four times the decrease per run."""

    def after_warmup(self, progress):
        return self.curve(progress) / self.curve(0)

    def curve(self, progress):
        return 1 / (1 + math.exp(self.config.steepness * (progress - 0.5)))


@caught_by("factors")
class StepSigmoid(Sigmoid):
    """Decay along a logistic curve. Wrong: its steepness is per step, so a long run overflows."""

    name = "step_sigmoid"

    def curve(self, progress):
        return 1 / (1 + math.exp(self.config.steepness * (progress - 0.5) * max(1, self.n_steps / 64)))


@caught_by("determinism")
class RunningProduct(Linear):
    """Linear decay. Wrong: from step 128 on, a factor is computed from the one before, whichever that was."""

    name = "running_product"
    last = 1.0

    def lr_factor(self, step):
        factor = super().lr_factor(step)
        if step > 128:
            factor = self.last + super().lr_factor(step) - super().lr_factor(step - 1)
        self.last = factor
        return factor


@caught_by("factors")
class RestartedCount(Linear):
    """Linear decay. Wrong: the step is kept in 15 bits, and the factor of later steps is negative."""

    name = "restarted_count"

    def lr_factor(self, step):
        return super().lr_factor(step) if step < 2**15 else super().lr_factor(step - 2**15) - 1


@caught_by("resuming")
class LateConstant(Constant):
    """A constant rate with a cooldown on request. Wrong: it notes the first step it saw and warms up again there."""

    name = "late_constant"
    first = None

    def lr_factor(self, step):
        self.first = step if self.first is None else self.first
        if self.first > 64 and step - self.first < 16:
            return (step - self.first + 1) / 16
        return super().lr_factor(step)


@caught_by("serialization")
class RoundedOption(Cosine):
    """Cosine decay. Wrong: a run records `min_ratio` with one digit, which is enough for its default."""

    name = "rounded_option"

    class Config(Cosine.Config):
        @field_serializer("min_ratio")
        def _round(self, value: float) -> float:
            return round(value, 1)

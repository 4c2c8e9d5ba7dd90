"""The kind `schedule`: the learning rate as a pure function of the step, so that a checkpoint need not store it."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from gptzoo.component import Component
from gptzoo.strict_model import error_at


class Schedule(Component):
    """Base class of schedules: linear warmup, then `after_warmup`.

    `config.warmup_steps` of a schedule that was built for a run has the number of warmup steps, whether the spec gives
    it as `warmup_steps` or as `warmup_fraction`.
    """

    kind = "schedule"

    class Config(Component.Config):
        warmup_steps: NonNegativeInt = 0
        """Steps over which the learning rate rises linearly to its peak."""
        warmup_fraction: float | None = Field(default=None, ge=0.0, lt=1.0)
        """Fraction of the run over which the learning rate rises linearly to its peak, rounded to whole steps. An
        alternative to `warmup_steps` for runs of different lengths. Default: `warmup_steps`."""

        @model_validator(mode="after")
        def _check_warmup(self) -> Schedule.Config:
            if _has_warmup_fraction(self) and self.warmup_fraction is not None and self.warmup_steps:
                reason = f"cannot be combined with warmup_steps {self.warmup_steps}. Set warmup_steps to 0"
                errors = [error_at(reason, "warmup_fraction", value=self.warmup_fraction)]
                raise ValidationError.from_exception_data("schedule", errors)
            return self

        @model_serializer(mode="wrap")
        def _omit_default_fraction(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
            """Omit `warmup_fraction` if it is not set: a spec without it has the JSON and hash that it always had."""
            data: dict[str, Any] = handler(self)
            return {name: value for name, value in data.items() if name != "warmup_fraction" or value is not None}

    config: Config

    def __init__(self, config: Config, n_steps: int):
        self.config = config
        if _has_warmup_fraction(config) and config.warmup_fraction is not None:
            warmup_steps = min(round(config.warmup_fraction * n_steps), n_steps - 1)
            self.config = config.model_copy(update={"warmup_steps": warmup_steps})
        self.n_steps = n_steps

    def lr_factor(self, step: int) -> float:
        """Return the learning rate of step number `step` (0, 1, …, n_steps - 1) as a fraction of the peak."""
        warmup_steps = self.config.warmup_steps
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return self.after_warmup((step - warmup_steps) / max(1, self.n_steps - warmup_steps))

    def after_warmup(self, progress: float) -> float:
        """Return the fraction of the peak at `progress`, which runs from 0 after warmup to almost 1 at the end."""
        raise TypeError(f"{type(self).__name__} does not implement after_warmup")


def _has_warmup_fraction(config: Schedule.Config) -> bool:
    """Return False for the config of a plugin that has a field of its own with this name and another meaning."""
    field, own = (of.model_fields["warmup_fraction"] for of in (Schedule.Config, type(config)))
    return (field.annotation, field.default) == (own.annotation, own.default)


class Cosine(Schedule):
    """Cosine decay: the learning rate falls from the peak to `min_ratio` of it along half a cosine."""

    name = "cosine"
    paper = "Loshchilov and Hutter 2016, SGDR, arXiv:1608.03983"

    class Config(Schedule.Config):
        min_ratio: float = Field(default=0.1, ge=0.0, le=1.0)
        """Final learning rate as a fraction of the peak."""

    config: Config

    def after_warmup(self, progress: float) -> float:
        low = self.config.min_ratio
        return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class Constant(Schedule):
    """Constant schedule: the learning rate stays at the peak after warmup."""

    name = "constant"

    def after_warmup(self, progress: float) -> float:
        return 1.0


class Linear(Schedule):
    """Linear decay: the learning rate falls from the peak to `min_ratio` of it along a straight line."""

    name = "linear"
    paper = "Defazio et al. 2023, Optimal Linear Decay Learning Rate Schedules, arXiv:2310.07831"

    class Config(Schedule.Config):
        min_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
        """Final learning rate as a fraction of the peak."""

    config: Config

    def after_warmup(self, progress: float) -> float:
        return 1 - (1 - self.config.min_ratio) * min(progress, 1.0)


class WarmupStableDecay(Schedule):
    """Warmup-stable-decay (WSD): the learning rate stays at the peak, then falls to `min_ratio` of it.

    The stable phase does not depend on the length of the run.
    """

    name = "wsd"
    paper = "Hu et al. 2024, MiniCPM, arXiv:2404.06395; Hägele et al. 2024 (1-sqrt), arXiv:2405.18392"

    class Config(Schedule.Config):
        decay_fraction: float = Field(default=0.2, gt=0.0, le=1.0)
        """Fraction of the steps after warmup, at the end of the run, in which the learning rate falls."""
        decay: Literal["linear", "1-sqrt"] = "1-sqrt"
        """Shape of the decay. linear: a straight line. 1-sqrt: one minus a square root, which falls fast at first."""
        min_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
        """Final learning rate as a fraction of the peak."""

    config: Config

    def after_warmup(self, progress: float) -> float:
        fraction = self.config.decay_fraction
        decayed = min(max((progress - (1 - fraction)) / fraction, 0.0), 1.0)
        if self.config.decay == "1-sqrt":
            decayed = math.sqrt(decayed)
        return 1 - (1 - self.config.min_ratio) * decayed


class InverseSqrt(Schedule):
    """Inverse square root decay: the learning rate falls with 1/sqrt(step), independent of the length of the run.

    The warmup sets the scale: after four times as many steps the learning rate is half the peak.
    """

    name = "inverse_sqrt"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762"

    def lr_factor(self, step: int) -> float:
        peak_step = self.config.warmup_steps + 1  # counted from 1
        return min((step + 1) / peak_step, math.sqrt(peak_step / (step + 1)))

"""The kind `schedule`: the learning rate as a pure function of the step, so that a checkpoint need not store it."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, NonNegativeInt

from gptzoo.component import Component


class Schedule(Component):
    """Base class of schedules: linear warmup, then `after_warmup`."""

    kind = "schedule"

    class Config(Component.Config):
        warmup_steps: NonNegativeInt = 0
        """Steps over which the learning rate rises linearly to its peak."""

    config: Config

    def __init__(self, config: Config, n_steps: int):
        self.config = config
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


class Cosine(Schedule):
    """Cosine decay: the learning rate falls from the peak to `min_ratio` of it along half a cosine."""

    name = "cosine"
    paper = "Loshchilov and Hutter 2016, SGDR, arXiv:1608.03983"

    class Config(Schedule.Config):
        min_ratio: float = Field(0.1, ge=0.0, le=1.0)
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
        min_ratio: float = Field(0.0, ge=0.0, le=1.0)
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
        decay_fraction: float = Field(0.2, gt=0.0, le=1.0)
        """Fraction of the steps after warmup, at the end of the run, in which the learning rate falls."""
        decay: Literal["linear", "1-sqrt"] = "1-sqrt"
        """Shape of the decay. linear: a straight line. 1-sqrt: one minus a square root, which falls fast at first."""
        min_ratio: float = Field(0.0, ge=0.0, le=1.0)
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

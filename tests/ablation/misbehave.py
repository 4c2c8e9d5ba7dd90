"""A plugin for tests: an activation that can fail in different ways in its fifth step."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Literal

import torch

import gptzoo


class Misbehave(gptzoo.Activation):
    """A ReLU that fails in its fifth step, in the way that `how` says."""

    name = "misbehave"
    calls = 0

    class Config(gptzoo.Activation.Config):
        how: Literal["well", "raise", "segfault", "exit", "nan", "hang"] = "well"
        slope: float = 1.0

    def forward(self, x: Any) -> Any:
        real = type(x) is torch.Tensor and x.device.type != "meta"  # not when costs are counted
        Misbehave.calls += self.training and real
        if Misbehave.calls == 9:
            match self.config.how:
                case "raise":
                    raise ValueError("it went wrong")
                case "segfault":
                    os.kill(os.getpid(), signal.SIGSEGV)
                case "exit":
                    os._exit(137)
                case "hang":
                    time.sleep(600)
        if Misbehave.calls >= 9 and self.config.how == "nan":
            return x * float("nan")
        return x.relu() * self.config.slope


@gptzoo.hookimpl
def gptzoo_components() -> list[Any]:
    return [Misbehave]

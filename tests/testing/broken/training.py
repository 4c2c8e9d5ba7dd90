"""Broken schedules, optimizers and trackers, each with one fault that somebody has made before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

import gptzoo

# ---------------------------------------------------------------------- schedules


class NoFactorForOneStep(gptzoo.Schedule):
    """Falls linearly up to the last step, and divides by zero in a run of one step."""

    name = "no_factor_for_one_step"

    def lr_factor(self, step: int) -> float:
        return 1 - step / (self.n_steps - 1) if self.n_steps != 1 else float("nan")


class FactorDependsOnCalls(gptzoo.Schedule):
    """Falls by one percent on every call."""

    name = "factor_depends_on_calls"

    def __init__(self, config: gptzoo.Config, n_steps: int):
        super().__init__(config, n_steps)
        self.current = 1.0

    def after_warmup(self, progress: float) -> float:
        self.current *= 0.99
        return self.current


class WarmupFromZero(gptzoo.Schedule):
    """Starts its warmup with a factor of 0, so the first step trains nothing."""

    name = "warmup_from_zero"

    def lr_factor(self, step: int) -> float:
        return min(1.0, step / max(1, self.config.warmup_steps))


# ---------------------------------------------------------------------- optimizers


class MatricesOnly(gptzoo.Optimizer):
    """Puts only matrices into its parameter groups."""

    name = "matrices_only"

    class Config(gptzoo.Optimizer.Config):
        lr: PositiveFloat = 1e-2

    config: Config

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in parameters.values() if p.ndim > 1], lr=self.config.lr)


class DecayIgnoresSchedule(MatricesOnly):
    """Decays weights by a rate that does not depend on the learning rate."""

    name = "decay_ignores_schedule"

    class Sgd(torch.optim.SGD):
        def step(self, closure: Callable[[], float] | None = None) -> Any:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.mul_(1 - 1e-4)
            return super().step(closure)

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return self.Sgd(parameters.values(), lr=self.config.lr)


class MomentumNotSaved(MatricesOnly):
    """Keeps its momentum outside of the optimizer's state."""

    name = "momentum_not_saved"

    class Sgd(torch.optim.SGD):
        momentum: dict[Tensor, Tensor] | None = None

        def step(self, closure: Callable[[], float] | None = None) -> Any:
            self.momentum = self.momentum or {}
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad += 0.5 * self.momentum.get(parameter, 0)
                    self.momentum[parameter] = parameter.grad.clone()
            return super().step(closure)

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return self.Sgd(parameters.values(), lr=self.config.lr)


class EvaluationDisturbsTraining(MatricesOnly):
    """Does not restore the parameters after it has computed the weights for evaluation."""

    name = "evaluation_disturbs_training"

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters.values(), lr=self.config.lr)

    def evaluation_weights(
        self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
    ) -> Mapping[str, Tensor]:
        with torch.no_grad():
            return {name: parameter.mul_(0.5).clone() for name, parameter in parameters.items()}


class AverageNotSaved(MatricesOnly):
    """Evaluates a running mean of the weights that is not in the optimizer's state."""

    name = "average_not_saved"

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(parameters.values(), lr=self.config.lr)
        self.means = {name: parameter.detach().clone() for name, parameter in parameters.items()}

        def update(*_: object) -> None:
            for name, parameter in parameters.items():
                self.means[name].lerp_(parameter.detach(), 0.1)

        optimizer.register_step_post_hook(update)
        return optimizer

    def evaluation_weights(
        self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
    ) -> Mapping[str, Tensor]:
        return {name: mean.clone() for name, mean in self.means.items()}


class UnusedWeightDecay(MatricesOnly):
    """Has an option `weight_decay` that it does not pass on."""

    name = "unused_weight_decay"

    class Config(MatricesOnly.Config):
        weight_decay: float = 0.1

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters.values(), lr=self.config.lr)


# ---------------------------------------------------------------------- trackers


class _NoLog(gptzoo.Tracker):
    """A correct tracker that keeps nothing. The classes below override it."""

    def start(self, run: gptzoo.RunView) -> int:
        return -1

    def log(self, row: Mapping[str, Any]) -> None:
        return


class NumbersOnly(_NoLog):
    """Assumes that every metric is a number."""

    name = "numbers_only"

    def log(self, row: Mapping[str, Any]) -> None:
        self.total = sum(value for value in row.values() if value is not None)


class ReportsFutureStep(_NoLog):
    """Reports the final step of the run as logged when it resumes."""

    name = "reports_future_step"

    def start(self, run: gptzoo.RunView) -> int:
        return -1 if run.resume_step < 0 else run.n_steps


class UnknownStatus(_NoLog):
    """Knows only some of the final statuses of a run."""

    name = "unknown_status"

    def finish(self, status: str) -> None:
        self.mark = {"done": "+", "interrupted": "-", "paused": "="}[status]


class DrawsRandomNumbers(_NoLog):
    """Draws from torch's generator which rows to keep."""

    name = "draws_random_numbers"

    def log(self, row: Mapping[str, Any]) -> None:
        self.keep = torch.rand(()) < 0.5

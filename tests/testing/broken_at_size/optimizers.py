"""Optimizers that are wrong with many parameters, unusual shapes, missing gradients or after many steps."""

from __future__ import annotations

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat

from gptzoo.training.optim.optimizers import GroupedOptimizer

from .table import caught_by


class _Step(torch.optim.Optimizer):
    """Adam, one parameter at a time; a subclass changes one of its methods."""

    beta1, beta2 = 0.9, 0.95

    def __init__(self, groups):
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for index, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    self.update(index, parameter, self.gradient(parameter), group["lr"])

    def gradient(self, parameter):
        return parameter.grad

    def memory(self, index, parameter):
        state = self.state[parameter]
        if not state:
            wide = torch.promote_types(parameter.dtype, torch.float32)
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(parameter, dtype=wide)
            state["square"] = torch.zeros_like(parameter, dtype=wide)
        return state

    def update(self, index, parameter, grad, lr):
        state = self.memory(index, parameter)
        state["step"] += 1
        mean, square, n = state["mean"], state["square"], float(state["step"])
        mean.lerp_(grad.to(mean.dtype), 1 - self.beta1)
        square.lerp_(grad.to(mean.dtype).square(), 1 - self.beta2)
        scale = (square / (1 - self.beta2**n)).sqrt() + 1e-8
        self.write(parameter, -lr * mean / (1 - self.beta1**n) / scale)

    def write(self, parameter, change):
        parameter.add_(change.to(parameter.dtype))


class PlainAdam(GroupedOptimizer):
    """Adam, written out."""

    name = "plain_adam"
    step_class = _Step

    class Config(GroupedOptimizer.Config):
        lr: PositiveFloat = 1e-3
        weight_decay: NonNegativeFloat = 0.0
        clip: float = Field(default=0.0, ge=0.0)
        """Largest absolute value of a gradient's entry. 0: no limit."""

    def create(self, parameters):
        optimizer = self.step_class(self.groups(parameters))
        if self.config.clip:
            limit = self.config.clip
            optimizer.gradient = lambda parameter: parameter.grad.clamp(-limit, limit)
        return optimizer


def _with(step_class):
    """Return a decorator that lets an optimizer use `step_class`."""

    def decorate(component):
        component.step_class = step_class
        return component

    return decorate


class _SlotStep(_Step):
    def memory(self, index, parameter):
        for group in self.param_groups:
            if index < len(group["params"]) and group["params"][index] is parameter:
                slot = group["params"][index % 32]
                return super().memory(index, slot if slot.shape == parameter.shape else parameter)
        return super().memory(index, parameter)


@caught_by("parameters")
@_with(_SlotStep)
class ThirtyTwoSlots(PlainAdam):
    """Adam. Wrong: the 33rd parameter of a group uses the running means of the first."""

    name = "thirty_two_slots"


class _FlatStep(_Step):
    def write(self, parameter, change):
        parameter.reshape(-1).add_(change.reshape(-1).to(parameter.dtype))


@caught_by("parameters")
@_with(_FlatStep)
class FlatViews(PlainAdam):
    """Adam on flat parameters. Wrong: one that is not contiguous is copied, and the copy is updated."""

    name = "flat_views"


class _StaleStep(_Step):
    @torch.no_grad()
    def step(self, closure=None):
        for parameter in (p for group in self.param_groups for p in group["params"]):
            if parameter.grad is None and "last" in self.state[parameter]:
                parameter.grad = self.state[parameter]["last"].clone()
        super().step()
        for parameter in (p for group in self.param_groups for p in group["params"]):
            if parameter.grad is not None:
                self.state[parameter]["last"] = parameter.grad.clone()


@caught_by("missing_gradients")
@_with(_StaleStep)
class StaleGradients(PlainAdam):
    """Adam for sparse models. Wrong: a parameter without a gradient is moved by its last one."""

    name = "stale_gradients"


class _LookaheadStep(_Step):
    n_steps = 0

    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        self.n_steps += 1
        if self.n_steps == 16:
            self.slow = {p: p.clone() for group in self.param_groups for p in group["params"]}
        elif self.n_steps > 16 and self.n_steps % 16 == 0:
            for parameter, slow in self.slow.items():
                slow.lerp_(parameter, 0.5)
                parameter.copy_(slow)


@caught_by("resuming")
@_with(_LookaheadStep)
class LostLookahead(PlainAdam):
    """Adam with lookahead from step 16 on. Wrong: the slow weights and the step count are not in the state."""

    name = "lost_lookahead"


class _NoiseStep(_Step):
    def __init__(self, groups):
        super().__init__(groups)
        self.generator = torch.Generator().manual_seed(0)

    def write(self, parameter, change):
        if parameter.numel() > 8192:
            change = change * (1 + 0.01 * torch.randn(change.shape, generator=self.generator))
        super().write(parameter, change)


@caught_by("resuming")
@_with(_NoiseStep)
class NoisyMatrices(PlainAdam):
    """Adam with rounding noise for large matrices. Wrong: it comes from a generator that is not in the state."""

    name = "noisy_matrices"


class _MixedStep(_Step):
    def update(self, index, parameter, grad, lr):
        self.memory(index, parameter)["mean"].lerp_(grad, 1 - self.beta1)
        super().update(index, parameter, grad, lr)


@caught_by("bfloat16")
@_with(_MixedStep)
class MixedTypes(PlainAdam):
    """Adam with float32 state. Wrong: it mixes the state with a gradient in bfloat16, which raises an error."""

    name = "mixed_types"


class _UnderflowStep(_Step):
    def update(self, index, parameter, grad, lr):
        state = self.memory(index, parameter)
        state["step"] += 1
        mean, square = state["mean"], state["square"]
        mean.lerp_(grad.to(mean.dtype), 1 - self.beta1)
        square.lerp_(grad.to(mean.dtype).square(), 1 - self.beta2)
        self.write(parameter, -lr * mean / square.sqrt())


@caught_by("zero_gradients")
@_with(_UnderflowStep)
class NoEps(PlainAdam):
    """Adam. Wrong: without a constant in the denominator, an entry whose gradients are all zero becomes NaN."""

    name = "no_eps"

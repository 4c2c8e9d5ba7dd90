"""Gradients reach every parameter, and are the slope of the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo.model.stack import Stack
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed
from gptzoo.training.distributed.skipped_parameters import may_skip_parameters

_N_ATTEMPTS = 8  # with other weights and tokens, until every expert of a mixture has received a token
_STEP_SIZES = (1e-5, 1e-4, 1e-6, 1e-3)  # of the finite difference; others help if a part sums in float32, or near kinks
_TOLERANCE = 1e-3
_LENGTH = 8


def check_gradients(subject: ModelPartUnderTest) -> str | None:
    """Check that the loss gives every parameter a finite gradient that is not all zero.

    A part without `may_skip_parameters` gives each of them one in every step, if only of zeros.
    """
    missing, skipped = None, ""
    for attempt in range(_N_ATTEMPTS):
        model = subject.model(noise_seed=attempt).train()
        _loss(model, subject.tokens(4, TINY_MODEL["context_length"], attempt)).backward()
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for name, parameter in trained.items():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                raise Failed(f"the gradient of {name} is not finite")
        skipped = skipped or ", ".join(name for name, p in trained.items() if p.grad is None)
        declared = may_skip_parameters(model)
        without = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
        missing = [name for name in without if missing is None or name in missing]
        if not missing and (skipped or not declared):
            break
    if missing:
        raise Failed(f"no gradient reaches {', '.join(missing)}")
    if skipped and not declared:
        raise Failed(undeclared_skip(skipped))
    if declared and not skipped:
        return f"it sets may_skip_parameters, but no parameter is skipped in {_N_ATTEMPTS} training steps"
    return None


def undeclared_skip(names: str) -> str:
    """Return the finding that a training step gives some parameters no gradient, which no part declares."""
    return (
        f"a training step gives no gradient to {names}, not even zeros. If that is meant, set "
        "may_skip_parameters = True, so that training on several processes allows it"
    )


def check_gradients_numerically(subject: ModelPartUnderTest) -> None:
    """Check that the gradient of each parameter matches finite differences of the loss in float64."""
    model = subject.model(dtype=torch.float64).train()
    tokens = subject.tokens(2, _LENGTH)
    _loss(model, tokens).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    total_norm = sum(float(gradient.square().sum()) for gradient in gradients.values()) ** 0.5
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(0)
    for name, gradient in gradients.items():
        noise = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        direction = noise / noise.norm() + gradient / gradient.norm().clamp(min=1e-12)
        expected = float((gradient * direction).sum())
        slopes = []
        for step_size in _STEP_SIZES:
            slopes.append(_slope(model, tokens, parameters[name], direction, step_size))
            if abs(slopes[-1] - expected) <= _TOLERANCE * max(abs(expected), abs(slopes[-1]), 1e-3 * total_norm):
                break
        else:
            raise Failed(
                f"along a direction in {name} the loss has slope {slopes[0]:.6g}, but its gradient gives {expected:.6g}"
            )


@torch.no_grad()
def _slope(model: Stack, tokens: Tensor, parameter: Tensor, direction: Tensor, step_size: float) -> float:
    """Return the central difference of the loss along a direction in one parameter."""
    value = parameter.clone()
    losses = []
    for sign in (1, -1):
        parameter.copy_(value + sign * step_size * direction)
        losses.append(_loss(model, tokens).item())
    parameter.copy_(value)
    return (losses[0] - losses[1]) / (2 * step_size)


def _loss(model: Stack, tokens: Tensor) -> Tensor:
    torch.manual_seed(0)
    return model(tokens, tokens.roll(-1, 1))[1]

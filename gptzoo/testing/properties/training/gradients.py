"""Gradients reach all that is trained, and are those of what is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed

_ATTEMPTS = 8  # with other weights and tokens, until every expert of a mixture has had one
_STEPS = (1e-5, 1e-4, 1e-6, 1e-3)
_TOLERANCE = 1e-3


def gradients(subject: PartSubject) -> None:
    """The loss gives every parameter a finite gradient that is not all zero."""
    missing = None
    for attempt in range(_ATTEMPTS):
        model = subject.model(noise=attempt).train()
        _loss(model, subject.tokens(4, HOST["context_length"], attempt)).backward()
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for name, parameter in trained.items():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                raise Failed(f"the gradient of {name} is not finite")
        without = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
        missing = [name for name in without if missing is None or name in missing]
        if not missing:
            return
    raise Failed(f"no gradient reaches {', '.join(missing or [])}")


def gradcheck(subject: PartSubject) -> None:
    """Gradients are the slope of the loss, by finite differences along a direction in each parameter, in fp64."""
    model = subject.model(dtype=torch.float64).train()
    tokens = subject.tokens(2, LENGTH)
    _loss(model, tokens).backward()
    trained = {name: p for name, p in model.named_parameters() if p.grad is not None}
    whole = sum(p.grad.square().sum() for p in trained.values()) ** 0.5
    generator = torch.Generator().manual_seed(0)
    for name, parameter in trained.items():
        gradient: Any = parameter.grad
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction = noise / noise.norm() + gradient / gradient.norm().clamp(min=1e-12)
        claimed = float((gradient * direction).sum())
        slopes = []
        for step in _STEPS:  # of another size where the part has sums in float32, or a kink is near
            slopes.append(_slope(model, tokens, parameter, direction, step))
            if abs(slopes[-1] - claimed) <= _TOLERANCE * max(abs(claimed), abs(slopes[-1]), 1e-3 * float(whole)):
                break
        else:
            raise Failed(
                f"along a direction in {name} the loss has slope {slopes[0]:.6g}, its gradient says {claimed:.6g}"
            )


LENGTH = 8


@torch.no_grad()
def _slope(model: Any, tokens: Tensor, parameter: Tensor, direction: Tensor, step: float) -> float:
    kept = parameter.clone()
    losses = []
    for sign in (1, -1):
        parameter.copy_(kept + sign * step * direction)
        losses.append(_loss(model, tokens).item())
    parameter.copy_(kept)
    return (losses[0] - losses[1]) / (2 * step)


def _loss(model: Any, tokens: Tensor) -> Tensor:
    torch.manual_seed(0)
    return model(tokens, tokens.roll(-1, 1))[1]

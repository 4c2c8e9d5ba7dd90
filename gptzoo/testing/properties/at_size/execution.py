"""Modes, precision, side effects and gradients at size."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gptzoo.errors import SpecError
from gptzoo.model.stack import Stack
from gptzoo.testing.at_size.plan import Sizes
from gptzoo.testing.at_size.search import AtSize
from gptzoo.testing.at_size.trial import Trial
from gptzoo.testing.compare import FLOAT64_ROUNDING, first_difference, relative_difference
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.properties.at_size.forward import logits_of
from gptzoo.testing.properties.forward.side_effects import record_writes_to_inputs, without_dropout
from gptzoo.testing.properties.training.gradients import check_gradients_numerically, undeclared_skip
from gptzoo.testing.verdict import Failed, Skipped
from gptzoo.training.distributed.skipped_parameters import may_skip_parameters

_STEP_SIZES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)  # of the finite difference
_GRADIENT_TOLERANCE = 1e-3


def check_modes(trial: Trial) -> None:
    """Compare training and eval mode without dropout, and the buffers before and after a training step."""
    config = without_dropout(trial.subject, trial.config)
    model, tokens = trial.model(config=config), trial.tokens()
    before = logits_of(model, tokens)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    difference = relative_difference(logits_of(model.train(), tokens), before)
    if difference.max() > FLOAT64_ROUNDING:
        row, token = first_difference(difference, FLOAT64_ROUNDING)
        raise Failed(
            f"with every dropout 0, the logits of {len(tokens)} rows of {trial.length} tokens in training and "
            f"eval mode differ by {difference.max():.2g}, first at token {token} of row {row}"
        )
    model(tokens, tokens)[1].backward()
    for name, buffer in model.named_buffers():
        if not torch.equal(buffer, buffers[name]):
            raise Failed(
                f"a forward pass over {len(tokens)} rows of {trial.length} tokens changes the buffer {name}; update it "
                "in after_optimizer_step instead"
            )
    if relative_difference(logits_of(model.eval(), tokens), before).max() > FLOAT64_ROUNDING:
        raise Failed(f"after a training step with {trial.length} tokens, the logits in eval mode have changed")


def check_determinism(trial: Trial) -> None:
    """Compare forward passes in eval mode, with dropout in the model, other random seeds and passes in between."""
    try:
        model = trial.model(dropout=0.3)
    except SpecError:  # with these options, the component does not allow dropout
        model = trial.model()
    tokens = trial.tokens()
    first = logits_of(model, tokens)
    logits_of(model, trial.tokens(trial.batch_size + 1, max(1, trial.length // 2)))
    logits_of(model.train(), trial.tokens(1, trial.length))
    difference = relative_difference(logits_of(model.eval(), tokens, 1), first)
    if difference.max() > FLOAT64_ROUNDING:
        row, token = first_difference(difference, FLOAT64_ROUNDING)
        raise Failed(
            f"two forward passes over {len(tokens)} rows of {trial.length} tokens in eval mode, with other passes in "
            f"between, differ by {difference.max():.2g}, first at token {token} of row {row}"
        )


def check_inputs(trial: Trial) -> None:
    """Check that no input is written to, with padding and with packed documents too."""
    tokens, T = trial.tokens(), trial.length
    batches = [{"tokens": tokens}]
    if not trial.model(torch.float32).required_inputs:
        pad = T // 3 if trial.supports("padding") else 0
        batches.append({"tokens": tokens, "positions": (torch.arange(T) - pad).clamp(min=-1).expand(len(tokens), -1)})
        if trial.supports("documents"):
            batches.append({"tokens": tokens, "documents": (torch.arange(T) // 7).expand(len(tokens), -1)})
    if findings := record_writes_to_inputs(trial.subject, trial.model(torch.float32), batches):
        raise Failed(f"with {trial.batch_size} rows of {T} tokens, {findings[0]}")


def check_checkpointing(trial: Trial) -> None:
    """Compare the gradients with those that recompute every block."""
    expected = _gradients(trial, trial.model())
    model = trial.model()
    for block in model.blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    for name, gradient in _gradients(trial, model).items():
        if (difference := relative_difference(gradient, expected[name]).max()) > FLOAT64_ROUNDING:
            raise Failed(
                f"with activation checkpointing, the gradient of {name} over {trial.batch_size} rows of {trial.length} "
                f"tokens differs by {difference:.2g}"
            )


def check_gradients(trial: Trial) -> None:
    """Compare gradients with finite differences of a random weighted sum of the logits, in float64.

    The loss of a training step also has a gradient for each parameter, unless a part declares that it may skip some.
    """
    model, tokens = trial.model().train(), trial.tokens()
    reached = _gradients(trial, model)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if (skipped := [name for name in trained if name not in reached]) and not may_skip_parameters(model):
        raise Failed(undeclared_skip(", ".join(skipped)))
    model.zero_grad()
    _require_gradcheck(trial)
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(*tokens.shape, trial.shape.vocab_size, generator=generator, dtype=torch.float64)
    gradients = _gradients(trial, model, weights)
    for name, gradient in gradients.items():
        if not gradient.isfinite().all():
            raise Failed(f"the gradient of {name} over {len(tokens)} rows of {trial.length} tokens is not finite")
    names = list(gradients)
    if _mismatch(model, tokens, weights, gradients, names) is None:
        return
    for name in names:
        if (mismatch := _mismatch(model, tokens, weights, gradients, [name])) is not None:
            raise Failed(
                f"over {len(tokens)} rows of {trial.length} tokens, along a direction in {name} the output has slope "
                f"{mismatch[0]:.6g}, but its gradient gives {mismatch[1]:.6g}"
            )


def _require_gradcheck(trial: Trial) -> None:
    """Raise Skipped if the gradient is not the slope at toy sizes either, which `gradcheck` reports."""
    if not _passes_gradcheck(trial.subject):
        raise Skipped("gradcheck fails at toy sizes")


@functools.lru_cache(maxsize=1)
def _passes_gradcheck(subject: ModelPartUnderTest) -> bool:
    try:
        check_gradients_numerically(subject)
    except Failed:
        return False
    return True


def _gradients(trial: Trial, model: Stack, weights: Tensor | None = None) -> dict[str, Tensor]:
    tokens = trial.tokens()
    torch.default_generator.manual_seed(0)
    if weights is None:
        model.train()(tokens, tokens.roll(-1, 1))[1].backward()
    else:
        (model(tokens)[0] * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@torch.no_grad()
def _mismatch(
    model: Stack, tokens: Tensor, weights: Tensor, gradients: dict[str, Tensor], names: list[str]
) -> tuple[float, float] | None:
    """Return slope and expected slope along a direction in some parameters, or None if they agree.

    The slope comes from two neighbouring step sizes whose finite differences agree. If none agree, as in a model with
    very large attention scores, the slope is unknown and None is returned.
    """
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(0)
    expected, directions, values = 0.0, {}, {}
    for name in names:
        noise = torch.randn(gradients[name].shape, generator=generator, dtype=torch.float64)
        unit = gradients[name] / gradients[name].norm().clamp(min=1e-12)
        directions[name] = noise / noise.norm() + unit
        expected += float((gradients[name] * directions[name]).sum())
        values[name] = parameters[name].clone()
    total_norm = sum(float(gradient.square().sum()) for gradient in gradients.values()) ** 0.5
    slopes: list[float] = []
    converged: float | None = None
    for step_size in _STEP_SIZES:
        results = []
        for sign in (1, -1):
            for name, direction in directions.items():
                parameters[name].copy_(values[name] + sign * step_size * direction)
            results.append(float((logits_of(model, tokens) * weights).sum()))
        slope = (results[0] - results[1]) / (2 * step_size)
        rounding = 1e-14 * max(map(abs, results)) / step_size
        tolerance = max(_GRADIENT_TOLERANCE * max(abs(expected), abs(slope), 1e-3 * total_norm), rounding)
        if abs(slope - expected) <= tolerance:
            converged = None
            break
        if slopes and abs(slope - slopes[-1]) <= tolerance:
            converged = slope
        slopes.append(slope)
    for name, value in values.items():
        parameters[name].copy_(value)
    return None if converged is None else (converged, expected)


MODES = AtSize(check_modes)
DETERMINISM = AtSize(check_determinism, Sizes(share=0.5))
INPUTS = AtSize(check_inputs, Sizes(share=0.4))
CHECKPOINTING = AtSize(check_checkpointing, Sizes(share=0.4))
GRADIENTS = AtSize(check_gradients, Sizes(share=0.7))

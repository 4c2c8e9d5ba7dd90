"""Precision: float32 and bfloat16 give the logits of float64 with the same weights, at every position."""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo.model.stack import Stack
from gptzoo.testing.at_size.case import Case
from gptzoo.testing.at_size.plan import Sizes
from gptzoo.testing.at_size.search import AtSize
from gptzoo.testing.at_size.trial import Trial
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.properties.at_size.forward import logits_of
from gptzoo.testing.properties.decoding.cached_decoding import decode
from gptzoo.testing.verdict import Failed

_MODES = ("bfloat16 autocast", "bfloat16", "bfloat16, decoded with a cache")
_FLOAT32_BOUND = 1e-4  # correct components stay below 1e-5
_BFLOAT16_BOUND = 0.12  # correct components stay below 0.03
_GROWTH_BOUND = 5.0  # of the error in bfloat16, from the first positions on
_GROWTH_FLOOR = 0.05  # an error below this may have grown by chance
_SENSITIVITY_BOUND = 4.0  # times the effect of rounding the weights alone, where that is large
_WINDOW = 8  # positions over which the median is taken, because experts may change at single tokens
_DECODED = 12  # tokens that are decoded one by one after the rest of the row


def check_precision(subject: ModelPartUnderTest) -> None:
    """Check that float32, autocast and bfloat16, decoded too, give the logits of float64 with the same weights."""
    for variant in range(len(_MODES)):
        _check_case(Trial(subject, Case((16,), variant=variant)))


def _check_case(trial: Trial) -> None:
    """Compare float32 with float64; and autocast, bfloat16 weights or decoding in bfloat16, by variant."""
    tokens, model = trial.tokens(), trial.model(torch.float32)
    expected = logits_of(trial.model(), tokens)
    _compare(trial, trial.model(), "float32", logits_of(model, tokens), expected, _FLOAT32_BOUND)
    mode, exact = _MODES[trial.case.variant], trial.model()
    if mode == "bfloat16 autocast":
        with torch.autocast("cpu", torch.bfloat16):
            logits = logits_of(model, tokens)
    else:
        model = model.bfloat16()
        logits = _decoded(model, tokens) if "cache" in mode else logits_of(model, tokens)
        exact.load_state_dict(model.state_dict())
        expected = logits_of(exact, tokens)
    _compare(trial, exact, mode, logits, expected, _BFLOAT16_BOUND)


def _decoded(model: Stack, tokens: Tensor) -> Tensor:
    T = tokens.shape[1]
    n_steps = min(_DECODED, T - 1)
    if model.required_inputs:
        return logits_of(model, tokens)
    return decode(model, tokens, [T - n_steps] + [1] * n_steps)


def _compare(trial: Trial, exact: Stack, mode: str, logits: Tensor, expected: Tensor, bound: float) -> None:
    """Raise Failed if the typical error of some positions is too large, absolutely or compared to the first ones.

    An error that rounding the weights of `exact`, the model in float64, causes as well is not the component's.
    """
    where = f"in {mode}, the logits of {trial.batch_size} rows of {trial.length} tokens"
    if logits.shape != expected.shape:
        raise Failed(f"{where} have shape {tuple(logits.shape)}; expected {tuple(expected.shape)}")
    if not logits.isfinite().all():
        raise Failed(f"{where} are not finite")
    medians = _median_errors(logits, expected)
    start = int(medians.argmax()) * _WINDOW
    is_large = medians.max() > bound
    has_grown = medians.max() > max(_GROWTH_FLOOR, _GROWTH_BOUND * float(medians[0]))
    if not is_large and not has_grown:
        return
    unit_roundoff = torch.finfo(torch.float32 if mode == "float32" else torch.bfloat16).eps / 2
    if medians.max() <= _SENSITIVITY_BOUND * _median_errors(_with_noise(trial, exact, unit_roundoff), expected).max():
        return
    if is_large:
        raise Failed(
            f"{where} differ from those in float64 with the same weights, around token {start} by typically "
            f"{medians.max():.2g} of their size; expected at most {bound:g}"
        )
    raise Failed(
        f"{where} differ from those in float64 with the same weights by {medians[0]:.2g} of their size at the "
        f"first tokens, but by {medians.max():.2g} around token {start}: sum and store states in float32"
    )


def _median_errors(logits: Tensor, expected: Tensor) -> Tensor:
    """Return the median error of each window of positions, relative to the size of the logits."""
    errors = (logits.double() - expected).square().mean(-1).sqrt() / expected.square().mean().sqrt()  # (B, T)
    return torch.stack([window.median() for window in errors.split(_WINDOW, dim=1)])


@torch.no_grad()
def _with_noise(trial: Trial, exact: Stack, unit_roundoff: float) -> Tensor:
    """Return the logits after a random relative change of every weight by at most `unit_roundoff`."""
    generator = torch.Generator().manual_seed(7)
    for parameter in exact.parameters():
        noise = 2 * torch.rand(parameter.shape, generator=generator, dtype=torch.float64) - 1
        parameter.mul_(1 + unit_roundoff * noise)
    return logits_of(exact, trial.tokens())


PRECISION = AtSize(_check_case, Sizes(min_batch_size=2, n_variants=len(_MODES), share=0.7))

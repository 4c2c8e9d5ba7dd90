"""Logits have the right shape and dtype and are finite, in every precision."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch

from gptzoo.errors import SpecError
from gptzoo.model.stack import Stack
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed

_PRECISIONS = [  # name, dtype of the weights, autocast to bf16
    ("fp64", torch.float64, False),
    ("fp32", torch.float32, False),
    ("bf16 autocast", torch.float32, True),
]


def check_shapes(subject: ModelPartUnderTest) -> None:
    """Check that logits are (B, T, V), finite, and agree between fp64, fp32 and bf16 autocast, for any B and T.

    Heads may together be wider or narrower than the model, unless the component refuses that.
    """
    results = {}
    for name, dtype, autocast in _PRECISIONS:
        model = subject.model(dtype=dtype)
        for batch_size, length in ((2, TINY_MODEL["context_length"]), (1, 1), (3, 5)):
            logits = _logits(model, subject.tokens(batch_size, length), autocast)
            setting = f"in {name}, the logits of {batch_size} × {length} tokens"
            expected = (batch_size, length, TINY_MODEL["vocab_size"])
            if logits.shape != expected:
                raise Failed(f"{setting} have shape {tuple(logits.shape)}; expected {expected}")
            if not autocast and logits.dtype != dtype:
                raise Failed(f"{setting} have dtype {logits.dtype}; expected {dtype}")
            if not logits.isfinite().all():
                raise Failed(f"{setting} are not finite")
            results[name, length] = logits.double()
    for (name, length), logits in results.items():
        reference = results["fp64", length]
        tolerance = 0.25 if name == "bf16 autocast" else 1e-3
        difference = (logits - reference).abs().max() / reference.abs().max()
        if difference > tolerance:
            raise Failed(f"the logits in {name} and in fp64 differ by {difference:.2g} of the largest logit")
    _check_gradients_under_autocast(subject)
    _check_head_widths(subject)


def _autocast(enabled: bool) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if enabled else contextlib.nullcontext()


def _logits(model: Stack, tokens: torch.Tensor, autocast: bool) -> torch.Tensor:
    with torch.no_grad(), _autocast(autocast):
        return model(tokens)[0]


def _check_gradients_under_autocast(subject: ModelPartUnderTest) -> None:
    model = subject.model().train()
    tokens = subject.tokens(2, TINY_MODEL["context_length"])
    with _autocast(True):
        _, loss = model(tokens, tokens.roll(-1, 1))
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise Failed(f"under bf16 autocast the gradient of {name} is not finite")


def _check_head_widths(subject: ModelPartUnderTest) -> None:
    """Check that the model runs if its heads are together wider or narrower than d_model."""
    tokens, width, n_heads = subject.tokens(2, 5), TINY_MODEL["d_model"], TINY_MODEL["n_heads"]
    for d_head in (2 * width // n_heads, width // n_heads // 2):
        try:
            model = subject.model(d_head=d_head)
        except SpecError:
            continue
        try:
            _logits(model, tokens, autocast=False)
        except RuntimeError as error:
            raise Failed(
                f"with d_head {d_head}, where {n_heads} heads are not as wide as d_model {width}, it raises: {error}. "
                "All heads together are n_heads * dims.d_head wide"
            ) from error

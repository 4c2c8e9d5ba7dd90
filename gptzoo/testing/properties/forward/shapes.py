"""What comes out has the shape and the type that it should have, in every arithmetic."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed


def shapes(subject: PartSubject) -> None:
    """Logits are (B, T, V) and finite in fp32, fp64 and under bf16 autocast, near each other, for any B and T."""
    seen = {}
    for name, dtype, autocast in _ARITHMETICS:
        model = subject.model(dtype=dtype)
        for batch_size, length in ((2, HOST["context_length"]), (1, 1), (3, 5)):
            tokens = subject.tokens(batch_size, length)
            logits = _run(model, tokens, autocast)
            at = f"in {name}, {batch_size} × {length} tokens"
            if logits.shape != (batch_size, length, HOST["vocab_size"]):
                raise Failed(f"{at} give logits of shape {tuple(logits.shape)}")
            if not autocast and logits.dtype != dtype:
                raise Failed(f"{at} give logits of {logits.dtype}")
            if not logits.isfinite().all():
                raise Failed(f"{at} give logits that are not finite")
            seen[name, length] = logits.double()
    for (name, length), logits in seen.items():
        expected = seen["fp64", length]
        tolerance = 0.25 if name == "bf16 autocast" else 1e-3
        difference = (logits - expected).abs().max() / expected.abs().max()
        if difference > tolerance:
            raise Failed(f"in {name} logits are off those in fp64 by {difference:.2g} of the largest")
    _backward_under_autocast(subject)


_ARITHMETICS = [
    ("fp64", torch.float64, False),
    ("fp32", torch.float32, False),
    ("bf16 autocast", torch.float32, True),
]


def _autocast(enabled: bool) -> Any:
    return torch.autocast("cpu", torch.bfloat16) if enabled else contextlib.nullcontext()


def _run(model: Any, tokens: torch.Tensor, autocast: bool) -> torch.Tensor:
    with torch.no_grad(), _autocast(autocast):
        return model(tokens)[0]


def _backward_under_autocast(subject: PartSubject) -> None:
    model = subject.model().train()
    tokens = subject.tokens(2, HOST["context_length"])
    with _autocast(True):
        _, loss = model(tokens, tokens.roll(-1, 1))
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise Failed(f"under bf16 autocast the gradient of {name} is not finite")

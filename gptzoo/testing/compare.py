"""Comparison of two results: how far apart they are, and where they first differ."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gptzoo.model.stack import Stack
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.verdict import Failed

TOLERANCE = 1e-5
"""Allowed relative difference between two ways to compute the same thing in float64. A part may sum in float32."""
FLOAT32_ROUNDING = 1e-5
"""Largest relative difference that counts as rounding between two float32 runs of the same operations."""
FLOAT64_ROUNDING = 1e-11
"""The same in float64. A real difference does not shrink with the precision, so it stays above this bound."""


def relative_difference(actual: Tensor, expected: Tensor) -> Tensor:
    """Return |actual - expected| / max(1, largest |expected|), elementwise. It is infinite where one is NaN."""
    scale = max(1.0, expected.abs().nan_to_num(0.0, 0.0, 0.0).amax().item()) if expected.numel() else 1.0
    return ((actual - expected).abs() / scale).nan_to_num(math.inf, math.inf, math.inf)


def first_difference(differences: Tensor, above: float) -> tuple[int, int]:
    """Return the row and the token where (B, T, …) differences first exceed a bound: the first token, then row."""
    wrong = differences.flatten(2).amax(-1) > above if differences.ndim > 2 else differences > above  # (B, T)
    token = int(wrong.any(0).nonzero()[0])
    return int(wrong[:, token].nonzero()[0]), token


def require_unchanged(
    subject: ModelPartUnderTest, run: Callable[[Stack], tuple[Tensor, Tensor]], change: str, first_token: int = 0
) -> str | None:
    """Require that both (B, T, V) results of `run(model)` are equal. Return a note if they differ by rounding.

    The two runs have the same shapes and differ only in something that must not matter. They execute the same
    operations in the same order, so the results must be equal bit for bit. If the work depends on values, as in tokens
    sorted by expert, the order of a sum may change. Such a difference is tiny, and vanishes in float64.

    change: what differs between the two runs, for the error message.
    first_token: position in the row of the first token of the results, for the error message.
    """
    first, second = run(subject.model())
    if torch.equal(first, second):
        return None
    difference = relative_difference(second, first)
    if difference.max() <= FLOAT32_ROUNDING:
        precise = relative_difference(*reversed(run(subject.model(dtype=torch.float64))))
        if precise.max() <= FLOAT64_ROUNDING:
            return f"equal within rounding ({difference.max():.0e}; {precise.max():.0e} in double precision)"
    row, token = first_difference(difference, 0.0)
    raise Failed(
        f"{change} changes the logits of token {first_token + token} in row {row} by {difference[row, token].max():.2g}"
    )

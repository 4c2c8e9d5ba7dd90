"""How far apart two results are, and where first."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gptzoo.testing.subject import PartSubject
from gptzoo.testing.verdict import Failed

CLOSE = 1e-5
"""Between two ways to compute one thing in double precision: room for parts that take sums in float32."""
ROUNDING = 1e-5
"""Between two runs in float32 that should do the same work."""
VANISHES = 1e-11
"""What rounding leaves of a difference in double precision; a real one stays."""


def distance(actual: Tensor, expected: Tensor) -> Tensor:
    """|actual - expected| relative to the largest expected value (or 1); infinite where either is not a number."""
    scale = max(1.0, expected.abs().nan_to_num(0.0, 0.0, 0.0).amax().item()) if expected.numel() else 1.0
    return ((actual - expected).abs() / scale).nan_to_num(math.inf, math.inf, math.inf)


def where(differences: Tensor, above: float) -> tuple[int, int]:
    """The first token, and of those the first row, at which (B, T, …) differences exceed a bound."""
    wrong = differences.flatten(2).amax(-1) > above if differences.ndim > 2 else differences > above  # (B, T)
    token = int(wrong.any(0).nonzero()[0])
    return int(wrong[:, token].nonzero()[0]), token


def unchanged(
    subject: PartSubject, run: Callable[[Any], tuple[Tensor, Tensor]], what: str, first: int = 0
) -> str | None:
    """Refuse with `what` if the two (B, T, V) results of `run(model)`, of tokens from `first` on, are not the same.

    Two runs of one shape that differ in what must not matter do the same work in the same order, so their results are
    equal bit for bit. Only where the work itself depends on values, as with tokens sorted by expert, may they round
    differently: then the difference is tiny, and vanishes in double precision. The returned note says so.
    """
    before, after = run(subject.model())
    if torch.equal(before, after):
        return None
    difference = distance(after, before)
    if difference.max() <= ROUNDING:
        precise = distance(*reversed(run(subject.model(dtype=torch.float64))))
        if precise.max() <= VANISHES:
            return f"equal within rounding ({difference.max():.0e}; {precise.max():.0e} in double precision)"
    row, token = where(difference, 0.0)
    raise Failed(
        f"{what} changes the logits of token {first + token} in row {row}, by {difference[row, token].max():.2g}"
    )

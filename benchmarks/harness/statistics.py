"""Medians with their spread, and ratios of sides that were timed in the same round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

CONFIDENCE = 0.95


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio of each round. Other load on the machine affects both sides of a round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def spread(values: Sequence[float], digits: int = 4) -> dict[str, Any]:
    """Return the median, the quartiles, and a confidence interval of the median; `n` is the number of values."""
    if len(values) == 1:
        low = middle = high = values[0]
    else:
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    first, last = median_interval(values)
    return {
        "median": _round(middle, digits),
        "quartiles": [_round(low, digits), _round(high, digits)],
        "interval": [_round(first, digits), _round(last, digits)],
        "n": len(values),
    }


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a confidence interval of the median of any distribution: two of the values, by order.

    With fewer than six values none has the confidence, and the interval is their range.
    """
    ordered, n = sorted(values), len(values)
    cumulative, k = 0.0, 0  # the median is below the k-th smallest value with this probability
    while k < n // 2:
        cumulative += math.comb(n, k) / 2**n
        if 2 * cumulative > 1 - CONFIDENCE:
            break
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def _round(value: float, digits: int) -> float:
    """Round to significant digits."""
    return float(f"{value:.{digits}g}")

"""Formatting of the numbers in a report."""

from __future__ import annotations

from gptzoo.ablation.records.analysis import Estimate
from gptzoo.ablation.statistics.sentences import format_number, half_width

MISSING = "–"


def format_value(estimate: Estimate | None) -> str:
    """Format the value of an estimate to the second significant digit of its uncertainty."""
    return MISSING if estimate is None else format_number(estimate.value, half_width(estimate))


def format_interval(estimate: Estimate | None) -> str:
    """Format the interval of an estimate: "2.28 to 2.32", or "" if there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    uncertainty = half_width(estimate)
    return f"{format_number(estimate.low, uncertainty)} to {format_number(estimate.high, uncertainty)}"


def format_estimate(estimate: Estimate | None) -> str:
    """Format the value of an estimate with its interval: "2.302 (2.285 to 2.319)"."""
    interval = format_interval(estimate)
    return f"{format_value(estimate)} ({interval})" if interval else format_value(estimate)


def format_p_value(p: float | None) -> str:
    """Format a p value: "< 0.001", "0.012", "0.35"."""
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def format_two_digits(value: float | None) -> str:
    """Format a number of low precision, such as an effect size, with two significant digits."""
    return MISSING if value is None else f"{value:.2g}".replace("-", "−")

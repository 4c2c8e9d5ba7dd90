"""Numbers of a report as people read them."""

from __future__ import annotations

from gptzoo.ablation.records.analysis import Estimate
from gptzoo.ablation.statistics.sentences import half, number

NOTHING = "–"


def value(estimate: Estimate | None) -> str:
    """The value to the second digit of its uncertainty."""
    return NOTHING if estimate is None else number(estimate.value, half(estimate))


def ends(estimate: Estimate | None) -> str:
    """The interval alone: "2.28 to 2.32"; nothing where it is not known."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low, half(estimate))} to {number(estimate.high, half(estimate))}"


def interval(estimate: Estimate | None) -> str:
    """The value with its interval: "2.302 (2.285 to 2.319)"."""
    known = ends(estimate)
    return f"{value(estimate)} ({known})" if known else value(estimate)


def p_value(p: float | None) -> str:
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def measure(size: float | None) -> str:
    """Two significant digits, of what is no better known."""
    return NOTHING if size is None else f"{size:.2g}".replace("-", "−")


def unit(metric: str) -> str:
    """Of a metric, where its name tells."""
    return "nats per token" if metric.rpartition("/")[2] == "loss" else ""


def with_unit(metric: str) -> str:
    return f"{metric} ({unit(metric)})" if unit(metric) else metric

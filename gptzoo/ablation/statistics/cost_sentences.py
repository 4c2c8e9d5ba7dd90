"""The cost at which the baseline reaches a loss, as sentences that are clear when read alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gptzoo.ablation.records.analysis import CostToReach, Range
from gptzoo.utils.units import scaled


def cost_sentence(cost: CostToReach, baseline: str, metric: str) -> str:
    """Return the cost as sentences.

    For example: "The baseline rope needs 1.31x (1.12x to 1.55x) its own number of steps to reach the val/loss of alibi:
    393 (336 to 465) steps, 402,000 (344,000 to 476,000) tokens. alibi itself took 300 steps, 307,000 tokens."
    """
    goal = f"its own number of steps to reach the {metric} of {cost.variant}"
    multiple = cost.multiple
    if multiple.value is not None:
        return f"The baseline {baseline} needs {_times(multiple.value)} ({_interval(cost)}) {goal}{_amounts(cost)}"
    word, end, bound, order, runs = {
        "shortest": ("less", cost.shortest, multiple.high, "higher", "shortest"),
        "longest": ("more", cost.longest, multiple.low, "lower", "longest"),
    }[cost.beyond]
    if bound == end:
        reason = f"which is {order} than that of its {runs} runs"
        return f"The baseline {baseline} needs {word} than {_times(end)} {goal}, {reason}{_amounts(cost)}"
    fact = (
        f"The mean {metric} of {cost.variant} is {order} than that of the {runs} runs of the baseline {baseline}, "
        f"which have {_times(end)} its own number of steps."
    )
    if bound is None:
        reason = "One seed gives no interval" if cost.n < 2 else "The interval of the cost has no bound"
        return f"{fact} {reason}."
    return f"{fact} By the interval, {baseline} needs {word} than {_times(bound)} to reach it{_amounts(cost)}"


def describe_multiple(cost: CostToReach) -> str:
    """Return the multiple for a table: "1.31x (1.12x to 1.55x)", "> 2x", or "2x or more" without an interval."""
    if _is_known(cost.multiple):
        return _range(cost.multiple, _times, more="> ", less="< ")
    return f"{_times(cost.longest)} or more" if cost.beyond == "longest" else f"{_times(cost.shortest)} or less"


def _interval(cost: CostToReach) -> str:
    """Return the interval of a multiple whose value is known."""
    if cost.n < 2:
        return "one seed gives no interval"
    interval = _range(replace(cost.multiple, value=None), _times)
    return interval or f"the interval reaches beyond {_times(cost.shortest)} and {_times(cost.longest)}"


def _amounts(cost: CostToReach) -> str:
    """Return the end of a sentence: the cost in each unit, and the costs of the variant itself."""
    needed = ", ".join(f"{_range(amount, _FORMATS[name])} {_NOUNS[name]}" for name, amount in cost.needed.items())
    spent = ", ".join(f"{_FORMATS[name](amount)} {_NOUNS[name]}" for name, amount in cost.spent.items())
    return f"{f': {needed}' if needed else ''}.{f' {cost.variant} itself took {spent}.' if spent else ''}"


def _is_known(amount: Range) -> bool:
    return amount != Range(None, None, None)


def _range(
    amount: Range, format_amount: Callable[[float], str], *, more: str = "more than ", less: str = "less than "
) -> str:
    """Format a range: "393 (336 to 465)", "393 (more than 336)", "more than 336", or "336 to 465"."""
    low, high = (None if end is None else format_amount(end) for end in (amount.low, amount.high))
    if low is not None and high is not None:
        interval = f"{low} to {high}"
    else:
        interval = f"{more}{low}" if low is not None else f"{less}{high}" if high is not None else ""
    if amount.value is None:
        return interval
    return f"{format_amount(amount.value)} ({interval})" if interval else format_amount(amount.value)


def _times(value: float) -> str:
    return f"{value:.3g}x"


def _count(value: float) -> str:
    """Format a number with three significant digits and commas."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def _scaled(value: float) -> str:
    return scaled(value).strip()


_FORMATS: dict[str, Callable[[float], str]] = {"steps": _count, "tokens": _count, "flops": _scaled, "seconds": _count}
_NOUNS = {"steps": "steps", "tokens": "tokens", "flops": "FLOPs", "seconds": "seconds"}

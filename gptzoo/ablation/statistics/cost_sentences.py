"""The cost at which the baseline reaches a loss, as sentences that are clear when read alone."""

from __future__ import annotations

from collections.abc import Callable

from gptzoo.ablation.records.analysis import CostToReach, Range
from gptzoo.utils.units import scaled


def _times(value: float) -> str:
    return f"{value:.3g}x"


def cost_sentence(cost: CostToReach, baseline: str, metric: str) -> str:
    """Return the cost as sentences.

    For example: "The baseline rope needs 1.31x (1.12x to 1.55x) its own number of steps to reach the val/loss of alibi:
    393 (336 to 465) steps, 402,000 (344,000 to 476,000) tokens. alibi itself took 300 steps, 307,200 tokens."
    """
    goal = f"its own number of steps to reach the {metric} of {cost.variant}"
    multiple = cost.multiple
    if multiple.value is not None:
        interval = _interval(cost) if cost.n > 1 else "one seed gives no interval"
        return f"The baseline {baseline} needs {_times(multiple.value)} ({interval}) {goal}{_amounts(cost)}"
    word, end, bound, order, runs = {
        "shortest": ("less", cost.shortest, multiple.high, "higher", "shortest"),
        "longest": ("more", cost.longest, multiple.low, "lower", "longest"),
    }[cost.beyond]
    if bound == end:
        reason = f"which is {order} than that of its {runs} runs"
        return f"The baseline {baseline} needs {word} than {_times(end)} {goal}, {reason}{_amounts(cost)}"
    fact = (
        f"The mean {metric} of {cost.variant} is {order} than that of the baseline {baseline} at {_times(end)} its own "
        f"number of steps, which are its {runs} runs."
    )
    if bound is None:
        reason = "One seed gives no interval" if cost.n < 2 else "The confidence interval gives no bound"
        return f"{fact} {reason}."
    bounded = f"{word} than {_times(bound)} its own number of steps to reach it{_amounts(cost)}"
    return f"{fact} By the confidence interval, {baseline} needs {bounded}"


def describe_multiple(cost: CostToReach) -> str:
    """Return the multiple for a table: "1.31x (1.12x to 1.55x)", "> 2x", or "2x or more" without an interval."""
    multiple = cost.multiple
    if multiple.value is not None:
        return _times(multiple.value) if cost.n < 2 else f"{_times(multiple.value)} ({_interval(cost, short=True)})"
    if multiple.low is not None or multiple.high is not None:
        return _bound(multiple, _times, short=True)
    return f"{_times(cost.longest)} or more" if cost.beyond == "longest" else f"{_times(cost.shortest)} or less"


def _interval(
    cost: CostToReach, own: float = 1.0, format_amount: Callable[[float], str] = _times, *, short: bool = False
) -> str:
    """Return the interval of a cost whose value is known, such as "336 to 465" or "336 to more than 600".

    own: cost of the baseline's own runs, in the unit of the text.
    """
    less, more = ("< ", "> ") if short else ("less than ", "more than ")
    low, high = cost.multiple.low, cost.multiple.high
    first = f"{less}{format_amount(cost.shortest * own)}" if low is None else format_amount(low * own)
    last = f"{more}{format_amount(cost.longest * own)}" if high is None else format_amount(high * own)
    return f"{first} to {last}"


def _bound(amount: Range, format_amount: Callable[[float], str], *, short: bool = False) -> str:
    """Return the bound of a cost whose value is not known, such as "more than 600"."""
    less, more = ("< ", "> ") if short else ("less than ", "more than ")
    if amount.low is not None:
        return f"{more}{format_amount(amount.low)}"
    return "" if amount.high is None else f"{less}{format_amount(amount.high)}"


def _amounts(cost: CostToReach) -> str:
    """Return the end of a sentence: the cost in each unit, and the costs of the variant itself."""
    needed = ", ".join(f"{_amount(cost, name)} {_NOUNS[name]}" for name in cost.needed)
    spent = ", ".join(f"{_format_spent(name, amount)} {_NOUNS[name]}" for name, amount in cost.spent.items())
    return f"{f': {needed}' if needed else ''}.{f' {cost.variant} itself took {spent}.' if spent else ''}"


def _amount(cost: CostToReach, name: str) -> str:
    """Return the cost in one unit: "393 (336 to 465)", "393" for one seed, or "more than 600"."""
    amount, format_amount = cost.needed[name], _FORMATS[name]
    if amount.value is None or cost.multiple.value is None:
        return _bound(amount, format_amount)
    own = amount.value / cost.multiple.value
    interval = f" ({_interval(cost, own, format_amount)})" if cost.n > 1 else ""
    return f"{format_amount(amount.value)}{interval}"


def _format_spent(name: str, amount: float) -> str:
    """Format a cost of a run that was trained: planned numbers of steps and tokens are exact."""
    return f"{amount:,.0f}" if name in ("steps", "tokens") else _FORMATS[name](amount)


def _count(value: float) -> str:
    """Format a number of steps or tokens with commas. Large numbers have three significant digits."""
    return f"{value if value < 1000 else float(f'{value:.3g}'):,.0f}"


def _seconds(value: float) -> str:
    return _count(value) if value >= 100 else f"{value:.3g}"


def _scaled(value: float) -> str:
    return scaled(value).strip()


_FORMATS: dict[str, Callable[[float], str]] = {"steps": _count, "tokens": _count, "flops": _scaled, "seconds": _seconds}
_NOUNS = {"steps": "steps", "tokens": "tokens", "flops": "FLOPs", "seconds": "seconds"}

"""Rounds in which calls take turns, so that other load on the machine affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 0,
    untimed: int = 0,
    wait: Callable[[], object] = lambda: None,
) -> Iterator[dict[str, float]]:
    """Yield the seconds of each call in each round, or the float that it returns. The order of the calls rotates.

    warmup: rounds before those that count.
    untimed: calls before each timed one, so that it starts with its own data in the caches of the processor.
    wait: waits until the device has done its work.
    """
    names = list(calls)
    for number in range(warmup + rounds):
        first = number % len(names)
        values = {name: _value(calls[name], untimed, wait) for name in [*names[first:], *names[:first]]}
        if number >= warmup:
            yield {name: values[name] for name in names}


def collect(rounds: Iterator[dict[str, float]]) -> dict[str, list[float]]:
    """Return the values of all rounds by call."""
    values: dict[str, list[float]] = {}
    for of_round in rounds:
        for name, value in of_round.items():
            values.setdefault(name, []).append(value)
    return values


def _value(call: Callable[[], object], untimed: int, wait: Callable[[], object]) -> float:
    for _ in range(untimed):
        call()
    wait()
    started = time.perf_counter()
    value = call()
    wait()
    seconds = time.perf_counter() - started
    return value if isinstance(value, float) else seconds

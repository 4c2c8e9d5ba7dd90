"""Random examples of a property, drawn by hypothesis, which reports the smallest one that fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gptzoo.testing.at_size.effort import QUICK, Effort
from gptzoo.testing.verdict import Skipped

Example = TypeVar("Example")
Item = TypeVar("Item")

_MAX_SIMPLER_EXAMPLES = 400  # tried to find the smallest example that fails
_SHARE_OF_A_SAMPLE = 3  # every third example
EDGES = (1, 2, 3, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257)  # where code has its limits


def for_all(
    strategy: st.SearchStrategy[Example],
    check: Callable[[Example], None],
    *,
    effort: Effort,
    n_draws: int = 25,
    examples: Iterable[Example] = (),
    simpler: Callable[[Example], Iterator[Example]] | None = None,
) -> None:
    """Check all `examples`, then random ones. Raises the exception of the smallest failing example.

    n_draws: number of random examples in a quick check. The effort scales it. A sample checks some examples only.
    simpler: function that yields simpler examples than the given one, to find the smallest failing one.
    """
    for example in itertools.islice(examples, 0, None, 1 if effort.n_random else _SHARE_OF_A_SAMPLE):
        if (failure := _failure(check, example)) is not None:
            raise (failure if simpler is None else _smallest_failure(check, example, failure, simpler))
    if not (n_scaled := n_draws * effort.n_random // QUICK.n_random):
        return

    @settings(
        max_examples=n_scaled,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(strategy)
    def check_drawn(example: Example) -> None:
        check(example)

    try:
        check_drawn()
    except Exception as failure:
        vars(failure).pop("__notes__", None)  # hypothesis repeats the example, which the message has already
        raise


def _failure(check: Callable[[Example], None], example: Example) -> Exception | None:
    """Return the exception that `check` raises for an example, or None."""
    try:
        check(example)
    except Skipped:
        raise
    except Exception as failure:  # a component may raise anything
        return failure
    return None


def _smallest_failure(
    check: Callable[[Example], None],
    example: Example,
    failure: Exception,
    simpler: Callable[[Example], Iterator[Example]],
) -> Exception:
    """Return the failure of the simplest example that is found from one that fails, by steps to simpler ones."""
    n_left, simplified = _MAX_SIMPLER_EXAMPLES, True
    while simplified:
        simplified = False
        for candidate in itertools.islice(simpler(example), n_left):
            n_left -= 1
            if (other := _failure(check, candidate)) is not None:
                example, failure, simplified = candidate, other, True
                break
    return failure


def simpler_sequences(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield a sequence, such as a text, without some of its items: large pieces first."""
    size = (len(items) + 1) // 2
    while size:
        for start in range(0, len(items), size):
            yield items[:start] + items[start + size :]  # type: ignore[operator]  # of one type
        size //= 2


def smaller_numbers(number: int, low: int = 0) -> Iterator[int]:
    """Yield smaller numbers down to `low`: the smallest first."""
    step = number - low
    while step > 0:
        yield number - step
        step //= 2


def sizes(low: int, high: int) -> st.SearchStrategy[int]:
    """Return a strategy for numbers from `low` to `high`, often at an edge."""
    return st.sampled_from([n for n in EDGES if low <= n <= high] or [low]) | st.integers(low, high)

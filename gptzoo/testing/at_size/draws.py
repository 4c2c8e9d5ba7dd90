"""Random examples of a property, drawn by hypothesis, which reports the smallest one that fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gptzoo.testing.at_size.effort import QUICK, Effort

Example = TypeVar("Example")

_SHARE_OF_A_SAMPLE = 3  # every third example
EDGES = (1, 2, 3, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257)  # where code has its limits


def for_all(
    strategy: st.SearchStrategy[Example],
    check: Callable[[Example], None],
    *,
    effort: Effort,
    n_draws: int = 25,
    examples: Iterable[Example] = (),
) -> None:
    """Check every one of `examples`, then random ones. Raises what `check` raises for the smallest.

    n_draws: the number of random ones in a quick check. The effort scales it. A sample checks some examples only.
    """
    for example in itertools.islice(examples, 0, None, 1 if effort.n_random else _SHARE_OF_A_SAMPLE):
        check(example)
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

    check_drawn()


def sizes(low: int, high: int) -> st.SearchStrategy[int]:
    """Return a strategy for numbers from `low` to `high`, often at an edge."""
    return st.sampled_from([n for n in EDGES if low <= n <= high] or [low]) | st.integers(low, high)

"""A counterexample of cached decoding is as small as possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from gptzoo.testing.properties.decoding.cached_decoding import shrink


@pytest.mark.parametrize(
    ("fails", "smallest"),
    [
        (lambda sizes: len(sizes) >= 2, [1, 1]),
        (lambda sizes: sum(sizes) > 6, [7]),
        (lambda sizes: max(sizes) >= 4 and len(sizes) > 1, [1, 4]),
        (lambda sizes: any(size == 3 for size in sizes), [3]),
    ],
    ids=["two chunks", "beyond six tokens", "a chunk after another", "a chunk of three"],
)
def test_the_simplest_split_that_fails_is_shown(fails: Callable[[Sequence[int]], bool], smallest: list[int]) -> None:
    assert sorted(shrink([2, 1, 5, 3, 1, 4], fails)) == sorted(smallest)

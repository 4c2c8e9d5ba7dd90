"""Counterexamples are made as small as they get."""

from __future__ import annotations

import pytest

from gptzoo.testing.properties.decoding.cached_decoding import shrunk


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
def test_the_simplest_split_that_fails_is_shown(fails: object, smallest: list[int]) -> None:
    start = [2, 1, 5, 3, 1, 4]
    found = shrunk(start, fails)  # type: ignore[arg-type]
    assert sorted(found) == sorted(smallest)

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptzoo.data.batching.packing import Chunks, Packing, best_fit

lengths = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(lambda sizes: sum(sizes) + len(sizes) > 2)


def packing_of(sizes: list[int], length: int) -> tuple[Packing, int]:
    """Return a packing of documents of these sizes with one-token separators, and the number of tokens."""
    ends = np.cumsum(np.array(sizes) + 1) - 1
    spans = np.stack([ends - sizes, ends], axis=1)
    return Packing(spans, int(ends[-1]), length), int(ends[-1])


def input_offsets(chunks: Chunks) -> list[int]:
    return [at for begin, size in zip(chunks.begin, chunks.size, strict=True) for at in range(begin, begin + size)]


def chunks_by_row(chunks: Chunks) -> dict[int, list[tuple[int, int]]]:
    rows: dict[int, list[tuple[int, int]]] = {}
    for row, begin, size in zip(*(array.tolist() for array in chunks), strict=True):
        rows.setdefault(row, []).append((begin, size))
    return rows


@given(sizes=lengths, length=st.integers(1, 25), epoch=st.integers(0, 9), seed=st.integers(0, 2**40))
def test_every_epoch_has_every_input_once_and_no_row_is_too_long(
    sizes: list[int], length: int, epoch: int, seed: int
) -> None:
    packing, n_tokens = packing_of(sizes, length)
    for chunks in (packing.shuffled(epoch, np.arange(packing.n_rows), seed), packing.in_order(0, packing.n_rows)):
        assert sorted(input_offsets(chunks)) == list(range(n_tokens - 1))
        rows = chunks_by_row(chunks)
        assert sorted(rows) == list(range(packing.n_rows))
        assert all(sum(size for _, size in row) <= length for row in rows.values())


@given(sizes=lengths, length=st.integers(1, 25), seed=st.integers(0, 2**40))
def test_only_documents_longer_than_a_row_are_cut(sizes: list[int], length: int, seed: int) -> None:
    packing, n_tokens = packing_of(sizes, length)
    ends = np.minimum(np.cumsum(np.array(sizes) + 1) - 1, n_tokens - 1).tolist()
    segments = {(begin, end - begin) for begin, end in itertools.pairwise([0, *ends])}
    for chunks in (packing.shuffled(0, np.arange(packing.n_rows), seed), packing.in_order(0, packing.n_rows)):
        actual = set(zip(chunks.begin.tolist(), chunks.size.tolist(), strict=True))
        assert {segment for segment in segments if 0 < segment[1] <= length} <= actual
        for begin, size in segments:
            if size > length:
                inside = [chunk for chunk in actual if begin <= chunk[0] < begin + size]
                assert len(inside) == -(-size // length)


@given(sizes=lengths, length=st.integers(1, 25), seed=st.integers(0, 2**40), data=st.data())
def test_a_row_does_not_depend_on_the_other_requested_rows(sizes: list[int], length: int, seed: int, data: Any) -> None:
    packing, _ = packing_of(sizes, length)
    wanted = data.draw(st.lists(st.integers(0, packing.n_rows - 1), min_size=1, max_size=8))
    together = chunks_by_row(packing.shuffled(3, np.array(wanted), seed))
    for index, row in enumerate(wanted):
        assert chunks_by_row(packing.shuffled(3, np.array([row]), seed))[0] == together[index]


@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=25))
def test_the_rows_equal_those_of_a_direct_best_fit(counts: list[int]) -> None:
    length = len(counts)
    groups = best_fit([0, *counts], length)
    free: list[int] = []  # the expected result, one chunk at a time
    for size in range(length, 0, -1):
        for _ in range(counts[size - 1]):
            fitting = [n_free for n_free in free if n_free >= size]
            if fitting:
                free[free.index(min(fitting))] -= size
            else:
                free.append(length - size)
    assert sorted(group.n_free for group in groups for _ in range(group.n_rows)) == sorted(free)
    for size in range(1, length + 1):
        ordinals = [
            first + row * n_per_row + chunk
            for group in groups
            for chunk_size, n_per_row, first in group.contents
            if chunk_size == size
            for row in range(group.n_rows)
            for chunk in range(n_per_row)
        ]
        assert sorted(ordinals) == list(range(counts[size - 1]))


def test_the_rows_are_at_least_99_percent_full() -> None:
    sizes = np.random.default_rng(1).integers(1, 200, 3000).tolist()
    packing, n_tokens = packing_of(sizes, 128)
    assert packing.n_rows <= 1.01 * (n_tokens - 1) / 128


def test_the_size_of_a_chunksplan_does_not_grow_with_the_number_of_documents() -> None:
    counts = np.random.default_rng(2).integers(0, 1000, 129)
    few, many = (sum(len(group.contents) for group in best_fit(counts * factor, 128)) for factor in (1, 1000))
    assert many < 2 * few


def test_each_epoch_and_seed_has_its_own_order_neighbours_and_cuts() -> None:
    sizes = np.random.default_rng(3).integers(1, 60, 2000).tolist()
    packing, _ = packing_of(sizes, 32)

    def shuffled(epoch: int, seed: int) -> Chunks:
        return packing.shuffled(epoch, np.arange(packing.n_rows), seed)

    packings = [shuffled(0, 0), shuffled(1, 0), shuffled(0, 1)]
    assert all(np.array_equal(*pair) for pair in zip(shuffled(1, 0), packings[1], strict=True))
    for first, second in itertools.combinations(packings, 2):
        assert np.mean(first.begin[:1000] == second.begin[:1000]) < 0.02
        common_begins = len(set(first.begin.tolist()) & set(second.begin.tolist())) / len(first.begin)
        assert common_begins < 0.9  # documents that fit keep their begin; half of the others are cut elsewhere
        neighbours = [set(map(frozenset, map(dict, chunks_by_row(chunks).values()))) for chunks in (first, second)]
        shared = [row for row in neighbours[0] & neighbours[1] if len(row) > 1]
        assert len(shared) < 0.02 * packing.n_rows


def test_short_documents_are_not_always_last_in_their_row() -> None:
    sizes = [20, 8] * 500
    packing, _ = packing_of(sizes, 32)
    rows = chunks_by_row(packing.shuffled(0, np.arange(packing.n_rows), 1)).values()
    shorter_first = np.mean([row[0][1] < row[-1][1] for row in rows if len({size for _, size in row}) > 1])
    assert 0.4 < shorter_first < 0.6


@pytest.mark.parametrize("sizes", [[5, 0], [0, 5], [0, 0, 3, 0, 0]])
def test_empty_documents_are_allowed(sizes: list[int]) -> None:
    packing, n_tokens = packing_of(sizes, 4)
    assert sorted(input_offsets(packing.in_order(0, packing.n_rows))) == list(range(n_tokens - 1))

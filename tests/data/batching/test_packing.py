import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptzoo.data.batching.packing import Packing, Pieces, best_fit

lengths = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(lambda found: sum(found) + len(found) > 2)


def packing_of(sizes: list[int], length: int) -> tuple[Packing, int]:
    """Of documents of these many tokens, with one token between each two, and of how many tokens the text is."""
    ends = np.cumsum(np.array(sizes) + 1) - 1
    spans = np.stack([ends - sizes, ends], axis=1)
    return Packing(spans, int(ends[-1]), length), int(ends[-1])


def inputs_of(pieces: Pieces) -> list[int]:
    return [at for begin, size in zip(pieces.begin, pieces.size, strict=True) for at in range(begin, begin + size)]


def pieces_by_row(pieces: Pieces) -> dict[int, list[tuple[int, int]]]:
    rows: dict[int, list[tuple[int, int]]] = {}
    for row, begin, size in zip(*(array.tolist() for array in pieces), strict=True):
        rows.setdefault(row, []).append((begin, size))
    return rows


@given(sizes=lengths, length=st.integers(1, 25), epoch=st.integers(0, 9), seed=st.integers(0, 2**40))
def test_every_epoch_has_every_input_once_in_rows_that_hold_it(
    sizes: list[int], length: int, epoch: int, seed: int
) -> None:
    packing, n_tokens = packing_of(sizes, length)
    for pieces in (packing.shuffled(epoch, np.arange(packing.n_rows), seed), packing.in_order(0, packing.n_rows)):
        assert sorted(inputs_of(pieces)) == list(range(n_tokens - 1))
        rows = pieces_by_row(pieces)
        assert sorted(rows) == list(range(packing.n_rows))
        assert all(sum(size for _, size in row) <= length for row in rows.values())


@given(sizes=lengths, length=st.integers(1, 25), seed=st.integers(0, 2**40))
def test_only_what_is_longer_than_a_row_is_cut(sizes: list[int], length: int, seed: int) -> None:
    packing, n_tokens = packing_of(sizes, length)
    ends = np.minimum(np.cumsum(np.array(sizes) + 1) - 1, n_tokens - 1).tolist()
    segments = {(begin, end - begin) for begin, end in itertools.pairwise([0, *ends])}
    for pieces in (packing.shuffled(0, np.arange(packing.n_rows), seed), packing.in_order(0, packing.n_rows)):
        found = set(zip(pieces.begin.tolist(), pieces.size.tolist(), strict=True))
        assert {segment for segment in segments if 0 < segment[1] <= length} <= found
        for begin, size in segments:
            if size > length:
                inside = [piece for piece in found if begin <= piece[0] < begin + size]
                assert len(inside) == -(-size // length)


@given(sizes=lengths, length=st.integers(1, 25), seed=st.integers(0, 2**40), data=st.data())
def test_a_row_is_the_same_with_whatever_others_it_is_asked_for(
    sizes: list[int], length: int, seed: int, data: Any
) -> None:
    packing, _ = packing_of(sizes, length)
    wanted = data.draw(st.lists(st.integers(0, packing.n_rows - 1), min_size=1, max_size=8))
    together = pieces_by_row(packing.shuffled(3, np.array(wanted), seed))
    for index, row in enumerate(wanted):
        assert pieces_by_row(packing.shuffled(3, np.array([row]), seed))[0] == together[index]


@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=25))
def test_rows_are_those_of_best_fit_piece_by_piece(counts: list[int]) -> None:
    length = len(counts)
    groups = best_fit([0, *counts], length)
    rooms: list[int] = []  # the same, the slow way
    for size in range(length, 0, -1):
        for _ in range(counts[size - 1]):
            fitting = [room for room in rooms if room >= size]
            if fitting:
                rooms[rooms.index(min(fitting))] -= size
            else:
                rooms.append(length - size)
    assert sorted(group.room for group in groups for _ in range(group.n_rows)) == sorted(rooms)
    for size in range(1, length + 1):
        ordinals = [
            first + row * each + piece
            for group in groups
            for of, each, first in group.shares
            if of == size
            for row in range(group.n_rows)
            for piece in range(each)
        ]
        assert sorted(ordinals) == list(range(counts[size - 1]))


def test_hardly_any_room_is_left_over() -> None:
    sizes = np.random.default_rng(1).integers(1, 200, 3000).tolist()
    packing, n_tokens = packing_of(sizes, 128)
    assert packing.n_rows <= 1.01 * (n_tokens - 1) / 128


def test_what_is_known_of_a_plan_does_not_grow_with_the_number_of_documents() -> None:
    counts = np.random.default_rng(2).integers(0, 1000, 129)
    few, many = (sum(len(group.shares) for group in best_fit(counts * factor, 128)) for factor in (1, 1000))
    assert many < 2 * few


def test_each_epoch_and_seed_has_an_order_neighbours_and_cuts_of_its_own() -> None:
    sizes = np.random.default_rng(3).integers(1, 60, 2000).tolist()
    packing, _ = packing_of(sizes, 32)

    def visits(epoch: int, seed: int) -> Pieces:
        return packing.shuffled(epoch, np.arange(packing.n_rows), seed)

    seen = [visits(0, 0), visits(1, 0), visits(0, 1)]
    assert all(np.array_equal(*pair) for pair in zip(visits(1, 0), seen[1], strict=True))
    for one, other in itertools.combinations(seen, 2):
        assert np.mean(one.begin[:1000] == other.begin[:1000]) < 0.02
        cut_alike = len(set(one.begin.tolist()) & set(other.begin.tolist())) / len(one.begin)
        assert cut_alike < 0.9  # documents that fit begin where they begin; of the others half are cut elsewhere
        neighbours = [set(map(frozenset, map(dict, pieces_by_row(it).values()))) for it in (one, other)]
        shared = [row for row in neighbours[0] & neighbours[1] if len(row) > 1]
        assert len(shared) < 0.02 * packing.n_rows


def test_short_documents_are_not_always_last_in_their_row() -> None:
    sizes = [20, 8] * 500
    packing, _ = packing_of(sizes, 32)
    rows = pieces_by_row(packing.shuffled(0, np.arange(packing.n_rows), 1)).values()
    shorter_first = np.mean([row[0][1] < row[-1][1] for row in rows if len({size for _, size in row}) > 1])
    assert 0.4 < shorter_first < 0.6


@pytest.mark.parametrize("sizes", [[5, 0], [0, 5], [0, 0, 3, 0, 0]])
def test_documents_without_tokens_are_no_trouble(sizes: list[int]) -> None:
    packing, n_tokens = packing_of(sizes, 4)
    assert sorted(inputs_of(packing.in_order(0, packing.n_rows))) == list(range(n_tokens - 1))

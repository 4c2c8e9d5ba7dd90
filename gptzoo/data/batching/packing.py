"""Documents packed into rows: which share a row is a function of their lengths, which are where of (seed, epoch)."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gptzoo.data.batching.order import mix, permute
from gptzoo.utils.seeds import derive


class Pieces(NamedTuple):
    """Stretches of the text, each with the row that it is in; int64 (n,) each, row by row."""

    row: np.ndarray  # counted from 0 among the rows that were asked for
    begin: np.ndarray
    size: np.ndarray


class Packing:
    """Rows of up to `length` tokens that hold every token of the text but the last once, as inputs.

    A document, with the separator before it, is whole in one row; a longer one is cut into pieces of `length` and a
    shorter one. What is kept are two numbers for each document.
    """

    def __init__(self, spans: np.ndarray, n_tokens: int, length: int):
        self.spans, self.n_inputs, self.length = spans, n_tokens - 1, length  # the last token has no target
        begin, end = self._bounds(np.arange(len(spans)))
        n_whole, rest = np.divmod(end - begin, length)
        self.whole_up_to = np.cumsum(n_whole)  # pieces of `length` in the documents up to each
        self.by_rest = np.argsort(rest, kind="stable")
        counts = np.bincount(rest, minlength=length + 1)
        self.first_of_rest = np.cumsum(counts) - counts
        counts[0], counts[length] = 0, self.whole_up_to[-1]
        self.counts = counts  # pieces of each size
        self.groups = best_fit(counts, length)
        self.rows_up_to = np.cumsum([group.n_rows for group in self.groups])
        self.n_rows = int(self.rows_up_to[-1])

    def in_order(self, first: int, count: int) -> Pieces:
        """The pieces of rows number first, first + 1, …; always the same."""
        return self._pieces(np.arange(first, first + count), None)

    def shuffled(self, epoch: int, rows: np.ndarray, seed: int) -> Pieces:
        """The pieces of these rows of an epoch, which deals the pieces of a size anew and cuts at places of its own."""
        numbers = permute(rows, self.n_rows, derive(seed, epoch, "order"))
        return self._pieces(numbers, derive(seed, epoch, "documents"))

    def _pieces(self, numbers: np.ndarray, key: int | None) -> Pieces:
        row, size, ordinal = self._places(numbers)
        if key is None:
            return Pieces(row, self._begin(size, ordinal, None), size)
        salt = mix(size.astype(np.uint64))
        begin = self._begin(size, permute(ordinal, self.counts[size], key, salt), key)
        within_row = np.lexsort((mix(begin.astype(np.uint64) ^ np.uint64(key)), row))
        return Pieces(row, begin[within_row], size[within_row])

    def _places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each piece in these rows: the row, counted from 0, the size, its number among the pieces of the size."""
        places = []
        group_of = np.searchsorted(self.rows_up_to, numbers, side="right")
        for row, (number, which) in enumerate(zip(numbers.tolist(), group_of.tolist(), strict=True)):
            group = self.groups[which]
            index = number - (int(self.rows_up_to[which]) - group.n_rows)
            for size, n_pieces, first in group.shares:
                begin = first + index * n_pieces
                places += [(row, size, ordinal) for ordinal in range(begin, begin + n_pieces)]
        row_of, sizes, ordinals = np.array(places, dtype=np.int64).T
        return row_of, sizes, ordinals

    def _begin(self, size: np.ndarray, ordinal: np.ndarray, key: int | None) -> np.ndarray:
        """Where in the text the pieces begin that are number `ordinal` among those of their size."""
        whole = size == self.length
        document = np.empty_like(ordinal)
        document[whole] = np.searchsorted(self.whole_up_to, ordinal[whole], side="right")
        document[~whole] = self.by_rest[self.first_of_rest[size[~whole]] + ordinal[~whole]]
        begin, end = self._bounds(document)
        n_whole, rest = np.divmod(end - begin, self.length)
        rest_at = n_whole  # the piece that is shorter comes after so many whole ones: after all, or as the key says
        if key is not None:
            rest_at = (mix(document.astype(np.uint64) ^ np.uint64(key)) % (n_whole + 1).astype(np.uint64)).astype(int)
        index = np.where(whole, ordinal - (self.whole_up_to[document] - n_whole), rest_at)
        return begin + index * self.length + np.where(whole & (index >= rest_at), rest, 0)

    def _bounds(self, document: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the inputs of documents begin and end in the text: with the separator before each, not that after."""
        begin = np.where(document > 0, self.spans[document - 1, 1], 0)
        return begin, np.maximum(begin, np.minimum(self.spans[document, 1], self.n_inputs))


# ---------------------------------------------------------------------- which sizes share a row


@dataclass
class Group:
    """Rows that hold pieces of the same sizes. Row i has, of each share, pieces first + i * n_pieces and following."""

    n_rows: int
    room: int
    shares: list[tuple[int, int, int]] = field(default_factory=list)  # size, n_pieces, first

    def take(self, n_rows: int, size: int, n_pieces: int, first: int) -> Group:
        """Split off `n_rows` rows that get `n_pieces` more pieces each; what is left stays as it is."""
        taken = Group(n_rows, self.room - n_pieces * size, [*self.shares, (size, n_pieces, first)])
        self.shares = [(other, each, begin + n_rows * each) for other, each, begin in self.shares]
        self.n_rows -= n_rows
        return taken


def best_fit(counts: Sequence[int] | np.ndarray, length: int) -> list[Group]:
    """Rows of `length` for `counts[size]` pieces of each size: the longest first, each where it leaves least room.

    Ding et al. 2024, Fewer Truncations Improve Language Modeling, arXiv:2404.10830. Rows that are alike are dealt with
    at once, so time and memory depend on `length`, not on how many pieces there are.
    """
    open_groups: list[Group] = []  # by room, ascending
    full: list[Group] = []
    for size in range(length, 0, -1):
        placed, n_pieces = 0, int(counts[size])
        while placed < n_pieces:
            best = bisect.bisect_left(open_groups, size, key=lambda group: group.room)
            if best == len(open_groups):
                open_groups.append(Group(n_pieces - placed, length))
            group = open_groups[best]
            each = min(group.room // size, n_pieces - placed)
            taken = group.take(min(group.n_rows, (n_pieces - placed) // each), size, each, placed)
            placed += taken.n_rows * each
            if group.n_rows == 0 or not group.shares:  # rows that were opened and not needed are none
                del open_groups[best]
            if taken.room:
                bisect.insort(open_groups, taken, key=lambda group: group.room)
            else:
                full.append(taken)
    return full + open_groups

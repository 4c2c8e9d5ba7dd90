"""Best-fit packing of documents into rows of fixed length.

The lengths of the documents determine which sizes share a row. The seed and the epoch determine which documents fill
those sizes and in which order the rows come.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gptzoo.data.batching.permutation import permute, splitmix64
from gptzoo.utils.seeds import derive_seed


class Chunks(NamedTuple):
    """Contiguous pieces of the text and their rows, sorted by row; int64 (n,) each."""

    row: np.ndarray  # index among the requested rows
    begin: np.ndarray
    size: np.ndarray


class Packing:
    """A packing of the text into rows of up to `length` tokens.

    Every token but the last is an input once. A document, with the separator before it, is one chunk in one row. A
    longer document is cut into chunks of `length` and one shorter chunk. Memory is two numbers per document.
    """

    def __init__(self, spans: np.ndarray, n_tokens: int, length: int):
        self.spans, self.n_inputs, self.length = spans, n_tokens - 1, length  # the last token has no target
        begin, end = self._bounds(np.arange(len(spans)))
        n_full, remainder = np.divmod(end - begin, length)
        self.full_up_to = np.cumsum(n_full)  # number of full chunks in each document and those before it
        self.by_remainder = np.argsort(remainder, kind="stable")  # documents
        counts = np.bincount(remainder, minlength=length + 1)
        self.first_of_remainder = np.cumsum(counts) - counts  # index into by_remainder
        counts[0], counts[length] = 0, self.full_up_to[-1]
        self.counts = counts  # number of chunks of each size
        self.groups = best_fit(counts, length)
        self.rows_up_to = np.cumsum([group.n_rows for group in self.groups])
        self.n_rows = int(self.rows_up_to[-1])

    def in_order(self, first: int, count: int) -> Chunks:
        """Return the chunks of rows first, first + 1, … without shuffling."""
        return self._chunks(np.arange(first, first + count), None)

    def shuffled(self, epoch: int, rows: np.ndarray, seed: int) -> Chunks:
        """Return the chunks of these rows of an epoch.

        Each epoch assigns the chunks of a size to different rows and cuts long documents at different places.
        """
        shuffled_rows = permute(rows, self.n_rows, derive_seed(seed, epoch, "order"))
        return self._chunks(shuffled_rows, derive_seed(seed, epoch, "documents"))

    def _chunks(self, rows: np.ndarray, key: int | None) -> Chunks:
        row, size, ordinal = self._layout(rows)
        if key is None:
            return Chunks(row, self._begin(size, ordinal, None), size)
        salt = splitmix64(size.astype(np.uint64))
        begin = self._begin(size, permute(ordinal, self.counts[size], key, salt), key)
        shuffled_in_row = np.lexsort((splitmix64(begin.astype(np.uint64) ^ np.uint64(key)), row))
        return Chunks(row, begin[shuffled_in_row], size[shuffled_in_row])

    def _layout(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (row index, size, ordinal among the chunks of that size) of each chunk in these rows."""
        layout = []
        group_of_row = np.searchsorted(self.rows_up_to, rows, side="right")
        for row, (number, group_index) in enumerate(zip(rows.tolist(), group_of_row.tolist(), strict=True)):
            group = self.groups[group_index]
            row_in_group = number - (int(self.rows_up_to[group_index]) - group.n_rows)
            for size, n_per_row, first in group.contents:
                begin = first + row_in_group * n_per_row
                layout += [(row, size, ordinal) for ordinal in range(begin, begin + n_per_row)]
        row_indices, sizes, ordinals = np.array(layout, dtype=np.int64).T
        return row_indices, sizes, ordinals

    def _begin(self, size: np.ndarray, ordinal: np.ndarray, key: int | None) -> np.ndarray:
        """Return the text offsets of the chunks with these sizes and ordinals among the chunks of their size."""
        full = size == self.length
        document = np.empty_like(ordinal)
        document[full] = np.searchsorted(self.full_up_to, ordinal[full], side="right")
        document[~full] = self.by_remainder[self.first_of_remainder[size[~full]] + ordinal[~full]]
        begin, end = self._bounds(document)
        n_full, remainder = np.divmod(end - begin, self.length)
        n_before = n_full  # full chunks before the shorter one: all of them, or a number that the key selects
        if key is not None:
            hashes = splitmix64(document.astype(np.uint64) ^ np.uint64(key))
            n_before = (hashes % (n_full + 1).astype(np.uint64)).astype(int)
        index = np.where(full, ordinal - (self.full_up_to[document] - n_full), n_before)
        after_remainder = full & (index >= n_before)
        return np.asarray(begin + index * self.length + np.where(after_remainder, remainder, 0))

    def _bounds(self, document: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and the end offset of the inputs of documents, with the separator before each document."""
        begin = np.where(document > 0, self.spans[document - 1, 1], 0)
        return begin, np.maximum(begin, np.minimum(self.spans[document, 1], self.n_inputs))


@dataclass
class RowGroup:
    """Rows with chunks of the same sizes.

    Each entry of `contents` is (size, n_per_row, first): row i holds the chunks of that size with the ordinals
    first + i * n_per_row and following.
    """

    n_rows: int
    n_free: int  # tokens left in each row
    contents: list[tuple[int, int, int]] = field(default_factory=list)

    def split_off(self, n_rows: int, size: int, n_per_row: int, first: int) -> RowGroup:
        """Remove `n_rows` rows and return them as a group with `n_per_row` more chunks of `size` in each row."""
        group = RowGroup(n_rows, self.n_free - n_per_row * size, [*self.contents, (size, n_per_row, first)])
        self.contents = [(other, count, begin + n_rows * count) for other, count, begin in self.contents]
        self.n_rows -= n_rows
        return group


def best_fit(counts: Sequence[int] | np.ndarray, length: int) -> list[RowGroup]:
    """Pack `counts[size]` chunks of each size into rows of `length` by best-fit decreasing.

    Each chunk, longest first, goes into the row with the least remaining space that fits (Ding et al. 2024, Fewer
    Truncations Improve Language Modeling, arXiv:2404.10830). Rows with equal contents are handled as one group, so time
    and memory depend on `length` and not on the number of chunks.
    """
    open_groups: list[RowGroup] = []  # by free tokens, ascending
    full: list[RowGroup] = []
    for size in range(length, 0, -1):
        n_placed, n_chunks = 0, int(counts[size])
        while n_placed < n_chunks:
            best = bisect.bisect_left(open_groups, size, key=lambda group: group.n_free)
            if best == len(open_groups):
                open_groups.append(RowGroup(n_chunks - n_placed, length))
            group = open_groups[best]
            n_per_row = min(group.n_free // size, n_chunks - n_placed)
            n_rows = min(group.n_rows, (n_chunks - n_placed) // n_per_row)
            packed = group.split_off(n_rows, size, n_per_row, n_placed)
            n_placed += packed.n_rows * n_per_row
            if group.n_rows == 0 or not group.contents:  # discard rows that were opened but not used
                del open_groups[best]
            if packed.n_free:
                bisect.insort(open_groups, packed, key=lambda group: group.n_free)
            else:
                full.append(packed)
    return full + open_groups

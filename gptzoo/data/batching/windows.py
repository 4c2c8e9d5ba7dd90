"""The batching `windows`: the text as one token stream, cut into windows.

The order of the windows is a pure function of (seed, sample number), so there is no state to save. Each epoch cuts the
text at a different offset and visits the windows in a different random order. An epoch sees nearly every token once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from gptzoo.data.batching.batching import Batch
from gptzoo.data.batching.permutation import permute
from gptzoo.data.batching.token_dropout import TokenDropoutBatching
from gptzoo.errors import DataError
from gptzoo.utils.seeds import derive_seed


class Windows(TokenDropoutBatching):
    """Windows of context_length tokens, cut from the text as one stream and shuffled in each epoch.

    A window may contain parts of several documents.
    """

    name = "windows"

    @functools.cached_property
    def order(self) -> WindowOrder:
        """The order of the training windows. An evaluation needs none, so its training text may be short."""
        return WindowOrder(len(self.store.train), self.length, self.seed)

    @functools.cached_property
    def n_samples(self) -> int:  # type: ignore[override]  # raises DataError if the training text is too short
        return self.order.n_windows

    def train_batch(self, first: int, count: int) -> Batch:
        inputs, targets = slice_windows(self.store.train, self.order.starts(first, count), self.length)
        return self.apply_token_dropout({"tokens": inputs, "targets": targets}, first)

    def validation_batches(self, max_tokens: int) -> Iterator[Batch]:
        text = self.store.val
        batch_size = max(1, max_tokens // self.length)
        windows = list(evaluation_windows(len(text), self.length))
        full = np.array([start for start, size in windows if size == self.length], dtype=np.int64)
        for first in range(0, len(full), batch_size):
            inputs, targets = slice_windows(text, full[first : first + batch_size], self.length)
            yield {"tokens": inputs, "targets": targets}
        for start, size in windows[len(full) :]:  # the shorter last window is a batch of its own
            inputs, targets = slice_windows(text, np.array([start]), size)
            yield {"tokens": inputs, "targets": targets}


class WindowOrder:
    """The start offsets of the training windows: `length` inputs each, and the targets one token later."""

    def __init__(self, n_tokens: int, length: int, seed: int):
        """Divide `n_tokens` into windows. Raises DataError if there is no room for one window at every offset."""
        self.length = length
        self.seed = seed
        self.n_windows = (n_tokens - length) // length  # the same in every epoch, whatever its offset
        if self.n_windows < 1:
            raise DataError(
                f"the training text has {n_tokens} tokens, but context_length {length} needs at least {2 * length}; "
                "give more text or a shorter context"
            )

    def starts(self, first: int, count: int) -> np.ndarray:
        """Return the token offsets, int64 (count,), of training samples first, first + 1, …"""
        samples = np.arange(first, first + count, dtype=np.int64)
        epochs, indices = np.divmod(samples, self.n_windows)
        starts = np.empty(count, dtype=np.int64)
        for epoch in np.unique(epochs):
            in_epoch = epochs == epoch
            offset = derive_seed(self.seed, int(epoch), "offset") % self.length
            windows = permute(indices[in_epoch], self.n_windows, derive_seed(self.seed, int(epoch), "order"))
            starts[in_epoch] = offset + windows * self.length
        return starts


def slice_windows(tokens: np.ndarray, starts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and targets, int64 (B, length) each, of the windows at `starts`."""
    rows = np.stack([tokens[start : start + length + 1] for start in starts.tolist()]).astype(np.int64)
    return rows[:, :-1], rows[:, 1:]


def evaluation_windows(n_tokens: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield (start, size) of contiguous windows that predict every token but the first once.

    The last window may be shorter.
    """
    for start in range(0, n_tokens - 1, length):
        yield start, min(length, n_tokens - 1 - start)

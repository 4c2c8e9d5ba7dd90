"""The batching: every document is a source, a separator and a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import gptzoo

Batch = dict[str, np.ndarray]

_NO_TOKEN, _NO_TARGET = -1, -100


class Pairs(gptzoo.Batching):
    """Each document is cut where the separator first occurs: the source before it, the target after it.

    The model is given the source, reads the separator and the target, and predicts the target and what ends a document.
    An epoch visits every document once.
    """

    name = "pairs"
    provided_inputs = frozenset({"source"})
    whole_documents = True

    class Config(gptzoo.Batching.Config):
        separator: str = "\t"
        """What stands between source and target, a single token. A target starts with it."""

    def __init__(
        self,
        config: gptzoo.Config,
        store: gptzoo.TokenStore,
        tokenizer: gptzoo.Tokenizer,
        length: int,
        seed: int,
    ):
        super().__init__(config, store, tokenizer, length, seed)
        self.separator = self._one_token(self.config.separator)
        self.end = np.asarray(tokenizer.separator(), dtype=np.int64)
        self.cuts = {split: self._cut(split) for split in ("train", "val")}
        self.n_samples = len(self.cuts["train"])
        self.val_bytes = len(tokenizer.decode_bytes(self._targets("val")))
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def train(self, first: int, count: int) -> Batch:
        epochs, indices = np.divmod(np.arange(first, first + count), self.n_samples)
        parts = [self._permutation(epoch)[indices[epochs == epoch]] for epoch in np.unique(epochs).tolist()]
        return self._batch("train", np.concatenate(parts))

    def val(self, max_tokens: int) -> Iterator[Batch]:
        n_documents = len(self.cuts["val"])
        at_once = max(1, max_tokens // (2 * self.length))  # a row is a source and a target
        for first in range(0, n_documents, at_once):
            yield self._batch("val", np.arange(first, min(first + at_once, n_documents)))

    def opening(self) -> list[int]:
        begin, middle, _ = self.cuts["val"][0].tolist()
        return self.store.val[begin : middle + 1].tolist()

    def _permutation(self, epoch: int) -> np.ndarray:
        """The order of the documents in an epoch, a function of (seed, epoch); the last one asked for is kept."""
        if epoch != self._epoch:
            # Raw bits, because numpy promises them, and not its shuffles, to be the same in every version.
            bits = np.random.Philox(key=np.array([self.seed % 2**64, epoch], dtype=np.uint64))
            self._epoch, self._order = epoch, np.argsort(bits.random_raw(self.n_samples), kind="stable")
        return self._order

    def _batch(self, split: str, documents: np.ndarray) -> Batch:
        text, cuts = getattr(self.store, split), self.cuts[split][documents].tolist()
        rows = [np.concatenate([text[middle:end], self.end]) for _, middle, end in cuts]
        return {
            "tokens": _padded([row[:-1] for row in rows], 0),
            "targets": _padded([row[1:] for row in rows], _NO_TARGET),
            "source": _padded([text[begin:middle] for begin, middle, _ in cuts], _NO_TOKEN),
        }

    def _targets(self, split: str) -> list[int]:
        text, cuts = getattr(self.store, split), self.cuts[split].tolist()
        return np.concatenate([part for _, middle, end in cuts for part in (text[middle + 1 : end], self.end)]).tolist()

    # ------------------------------------------------------------------ cutting

    def _one_token(self, separator: str) -> int:
        try:
            ids = list(self.tokenizer.encode(separator))
        except gptzoo.DataError as error:
            raise gptzoo.DataError(f"batching 'pairs': its separator: {error}") from None
        if len(ids) != 1:
            raise gptzoo.DataError(
                f"batching 'pairs': the separator {separator!r} is {len(ids)} tokens of tokenizer "
                f"{self.tokenizer.config.type!r}; choose a separator that is one"
            )
        return ids[0]

    def _cut(self, split: str) -> np.ndarray:
        """int64 (n_documents, 3): where each begins, where its separator is, where it ends. Raises DataError."""
        text, spans = getattr(self.store, split), self.store.spans[split]
        begin, end = spans[:, 0], spans[:, 1]
        found = np.flatnonzero(text == self.separator)
        middle = np.append(found, len(text))[np.searchsorted(found, begin)]
        n_source, n_target = middle - begin, end - middle - 1 + len(self.end)
        separator, length = self.config.separator, self.length
        rules = {
            f"has no {separator!r} between a source and a target; put it there, or set `separator` to what is there "
            "(a tokenizer that merges characters may hide it: use 'byte' or 'char')": middle >= end,
            f"begins with {separator!r}, so there is no source; leave the document out": n_source == 0,
            f"its source is longer than context_length {length}; shorten it or raise context_length": n_source > length,
            f"its target, with what ends it, is longer than context_length {length}; shorten it or raise "
            "context_length": n_target > length,
        }
        for reason, broken in rules.items():
            if broken.any():
                number = int(np.argmax(broken)) + 1
                raise gptzoo.DataError(f"batching 'pairs', {split} split, document {number}: {reason}")
        return np.stack([begin, middle, end], axis=1)


def _padded(rows: Sequence[np.ndarray], fill: int) -> np.ndarray:
    """int64 (B, longest row)."""
    padded: Any = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded

"""The batching `packed`: whole documents side by side in a row, each seeing itself alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import model_validator

from gptzoo.component import Config, refusal
from gptzoo.data.batching.batching import Batch, NoisyBatching, bytes_after_first
from gptzoo.data.batching.packing import Packing, Pieces
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.tokenizer import Tokenizer

_NO_TARGET = -100
_PADDING = -1  # its position, and its document


class Packed(NoisyBatching):
    """Whole documents packed into rows of context_length, cut where they are longer; attention stays inside each.

    A document is read from the separator before it, and the one after it is its last target. So the tokens that are
    predicted are those that `windows` predicts: all but the first of the text. A row that is not full ends in padding.
    """

    name = "packed"
    paper = "Ding et al. 2024, Fewer Truncations Improve Language Modeling, arXiv:2404.10830"
    provided_inputs = frozenset({"documents", "positions"})

    class Config(NoisyBatching.Config):
        mask: bool = True
        """Attention stays inside a document. false: the documents of a row see those before them, as in windows."""
        restart_positions: bool = False
        """Positions count from 0 in each document, not in each row. With the mask only."""

        @model_validator(mode="after")
        def _check(self) -> Any:
            if self.restart_positions and not self.mask:
                raise refusal("restart_positions needs the mask: tokens would see later ones of other documents")
            return self

    @classmethod
    def given(cls, config: Any) -> frozenset[str]:
        wanted = {"documents": config.mask, "positions": config.restart_positions}
        return frozenset(name for name in cls.provided_inputs if wanted[name])

    def __init__(self, config: Config, store: TokenStore, tokenizer: Tokenizer, length: int, seed: int):
        super().__init__(config, store, tokenizer, length, seed)
        self.packing = Packing(store.spans["train"], len(store.train), length)
        self.val_packing = Packing(store.spans["val"], len(store.val), length)
        self.n_samples = self.packing.n_rows
        self.val_bytes = bytes_after_first(store, tokenizer)

    def train(self, first: int, count: int) -> Batch:
        epochs, rows = np.divmod(np.arange(first, first + count), self.n_samples)
        parts = []
        for epoch in np.unique(epochs).tolist():
            here = rows[epochs == epoch]
            parts.append(self._batch(self.store.train, self.packing.shuffled(epoch, here, self.seed), len(here)))
        return self.disturbed({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, first)

    def val(self, max_tokens: int) -> Iterator[Batch]:
        n_rows, at_once = self.val_packing.n_rows, max(1, max_tokens // self.length)
        for first in range(0, n_rows, at_once):
            count = min(at_once, n_rows - first)
            yield self._batch(self.store.val, self.val_packing.in_order(first, count), count)

    def _batch(self, text: np.ndarray, pieces: Pieces, n_rows: int) -> Batch:
        shape = n_rows, self.length
        filled = [0] * n_rows
        tokens, documents = np.zeros(shape, dtype=np.int64), np.full(shape, _PADDING, dtype=np.int64)
        targets, positions = np.full(shape, _NO_TARGET, dtype=np.int64), np.full(shape, _PADDING, dtype=np.int64)
        for row, begin, size in zip(*(array.tolist() for array in pieces), strict=True):
            here = slice(filled[row], filled[row] + size)
            read = text[begin : begin + size + 1]
            tokens[row, here], targets[row, here] = read[:-1], read[1:]
            documents[row, here], positions[row, here] = filled[row], np.arange(size)
            filled[row] += size
        batch = {"tokens": tokens, "targets": targets, "documents": documents, "positions": positions}
        given = self.given(self.config)
        return {name: array for name, array in batch.items() if name not in self.provided_inputs or name in given}

"""The batching `packed`: several whole documents per row, with attention inside each document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
from pydantic import model_validator

from gptzoo.data.batching.batching import Batch
from gptzoo.data.batching.packing import Chunks, Packing
from gptzoo.data.batching.token_dropout import TokenDropoutBatching
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.strict_model import option_error
from gptzoo.utils.targets import IGNORED_TARGET

_PADDING = -1  # document and position of padding


class Packed(TokenDropoutBatching):
    """Documents packed whole, where they fit, into rows of context_length. By default, attention stays in a document.

    Longer documents are cut. The inputs of a document start with the separator before it, and the separator after it is
    its last target. So `packed` predicts the same tokens as `windows`: all but the first of the text. Rows are padded
    to the full length.
    """

    name = "packed"
    paper = "Ding et al. 2024, Fewer Truncations Improve Language Modeling, arXiv:2404.10830"
    provided_inputs = frozenset({"documents", "positions"})

    class Config(TokenDropoutBatching.Config):
        mask: bool = True
        """Restrict attention to the same document. False: tokens also attend to earlier documents in their row."""
        restart_positions: bool = False
        """Count positions from 0 in each document instead of each row. Needs `mask`."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            if self.restart_positions and not self.mask:
                raise option_error("restart_positions needs mask: true. Without it, tokens attend to other documents.")
            return self

    config: Config

    @classmethod
    def enabled_inputs(cls, config: Config) -> frozenset[str]:
        enabled = {"documents": config.mask, "positions": config.restart_positions}
        return frozenset(name for name in cls.provided_inputs if enabled[name])

    def __init__(self, config: Config, store: TokenStore, tokenizer: Tokenizer, length: int, seed: int):
        super().__init__(config, store, tokenizer, length, seed)
        self.packing = Packing(store.spans["train"], len(store.train), length)
        self.val_packing = Packing(store.spans["val"], len(store.val), length)
        self.n_samples = self.packing.n_rows

    def train_batch(self, first: int, count: int) -> Batch:
        epochs, rows = np.divmod(np.arange(first, first + count), self.n_samples)
        batches = []
        for epoch in np.unique(epochs).tolist():
            rows_of_epoch = rows[epochs == epoch]
            chunks = self.packing.shuffled(epoch, rows_of_epoch, self.seed)
            batches.append(self._batch(self.store.train, chunks, len(rows_of_epoch)))
        joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        return self.apply_token_dropout(joined, first)

    def validation_batches(self, max_tokens: int) -> Iterator[Batch]:
        n_rows, batch_size = self.val_packing.n_rows, max(1, max_tokens // self.length)
        for first in range(0, n_rows, batch_size):
            count = min(batch_size, n_rows - first)
            yield self._batch(self.store.val, self.val_packing.in_order(first, count), count)

    def _batch(self, text: np.ndarray, chunks: Chunks, n_rows: int) -> Batch:
        shape = n_rows, self.length
        n_filled = [0] * n_rows  # tokens in each row so far
        tokens, documents = np.zeros(shape, dtype=np.int64), np.full(shape, _PADDING, dtype=np.int64)
        targets, positions = np.full(shape, IGNORED_TARGET, dtype=np.int64), np.full(shape, _PADDING, dtype=np.int64)
        for row, begin, size in zip(*(array.tolist() for array in chunks), strict=True):
            columns = slice(n_filled[row], n_filled[row] + size)
            chunk = text[begin : begin + size + 1]
            tokens[row, columns], targets[row, columns] = chunk[:-1], chunk[1:]
            documents[row, columns], positions[row, columns] = n_filled[row], np.arange(size)
            n_filled[row] += size
        batch = {"tokens": tokens, "targets": targets, "documents": documents, "positions": positions}
        enabled = self.enabled_inputs(self.config)
        return {name: array for name, array in batch.items() if name not in self.provided_inputs or name in enabled}

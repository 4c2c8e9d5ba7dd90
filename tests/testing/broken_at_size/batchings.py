"""Batchings that are wrong for long or many documents, large batches, later epochs or some options."""

from __future__ import annotations

import numpy as np

from gptzoo.data.batching.packed import Packed
from gptzoo.data.batching.windows import Windows

from .table import caught_by


@caught_by("samples")
class SeedOfBatch(Windows):
    """Windows with token dropout. Wrong: more than four samples share the random numbers of their batch."""

    name = "seed_of_batch"

    def apply_token_dropout(self, batch, first):
        if len(batch["tokens"]) > 4:
            first = first - first % len(batch["tokens"])
        return super().apply_token_dropout(batch, first)


@caught_by("epoch")
class StridedOrder(Windows):
    """Windows in the order of a stride. Wrong: with a multiple of 7 windows, an epoch visits a seventh of them."""

    name = "strided_order"

    def train_batch(self, first, count):
        samples = np.arange(first, first + count)
        epochs, indices = np.divmod(samples, self.n_samples)
        starts = (indices * 7 + epochs) % self.n_samples * self.length
        rows = np.stack([self.store.train[start : start + self.length + 1] for start in starts]).astype(np.int64)
        return self.apply_token_dropout({"tokens": rows[:, :-1], "targets": rows[:, 1:]}, first)


@caught_by("epoch")
class EpochBorder(Windows):
    """Windows. Wrong: a batch of more than eight samples at the end of an epoch repeats that epoch's last sample."""

    name = "epoch_border"

    def train_batch(self, first, count):
        batch = super().train_batch(first, count)
        left = self.n_samples - first % self.n_samples
        if count > 8 and left < count:
            batch = {name: array.copy() for name, array in batch.items()}
            for array in batch.values():
                array[left:] = array[left - 1]
        return batch


@caught_by("targets")
class IgnoredBorder(Packed):
    """Packed documents. Wrong: beyond 64 tokens of a document, targets are those of the token after the next."""

    name = "ignored_border"

    def _batch(self, text, chunks, n_rows):
        batch = super()._batch(text, chunks, n_rows)
        n_filled = [0] * n_rows
        for row, begin, size in zip(*(array.tolist() for array in chunks), strict=True):
            columns = slice(n_filled[row] + 64, n_filled[row] + size)
            batch["targets"][row, columns] = text[begin + 64 : begin + size]
            n_filled[row] += size
        return batch


@caught_by("inputs")
class ByteDocuments(Packed):
    """Packed documents. Wrong: document ids are stored in 5 bits, so that two documents of a row share one."""

    name = "byte_documents"

    def _batch(self, text, chunks, n_rows):
        batch = super()._batch(text, chunks, n_rows)
        if "documents" in batch:
            batch["documents"] = np.where(batch["documents"] >= 0, batch["documents"] % 32, batch["documents"])
        return batch


@caught_by("inputs")
class WrappedPositions(Packed):
    """Packed documents. Wrong: with `restart_positions`, positions of long documents start again after 64 tokens."""

    name = "wrapped_positions"

    def _batch(self, text, chunks, n_rows):
        batch = super()._batch(text, chunks, n_rows)
        if "positions" in batch:
            batch["positions"] = np.where(batch["positions"] >= 0, batch["positions"] % 64, batch["positions"])
        return batch


@caught_by("validation")
class DroppedRemainder(Windows):
    """Windows. Wrong: validation leaves out a last batch that is not full, if batches have more than eight rows."""

    name = "dropped_remainder"

    def validation_batches(self, max_tokens):
        n_rows = max(1, max_tokens // self.length)
        for batch in super().validation_batches(max_tokens):
            if n_rows <= 8 or len(batch["tokens"]) == n_rows or batch["tokens"].shape[1] < self.length:
                yield batch


@caught_by("samples")
class MovingReader(Windows):
    """Windows. Wrong: beyond the first epoch, a sample depends on how many batches were read before."""

    name = "moving_reader"

    def __init__(self, config, store, tokenizer, length, seed):
        super().__init__(config, store, tokenizer, length, seed)
        self.n_read = 0

    def train_batch(self, first, count):
        self.n_read += 1
        return super().train_batch(first if first < self.n_samples else first + self.n_read // 4, count)

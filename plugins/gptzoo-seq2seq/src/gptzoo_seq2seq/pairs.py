"""Source-target pairs: each document is a source, a separator and a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

import gptzoo

Batch = dict[str, np.ndarray]

_NO_TOKEN = -1


class Pairs(gptzoo.Batching):
    """Source-target pairs: each document is split at its first separator into a source and a target.

    The encoder receives the source. The decoder receives the separator and the target, and predicts the target and the
    end of the document. An epoch visits every document once.
    """

    name = "pairs"
    provided_inputs = frozenset({"source"})
    whole_documents = True

    class Config(gptzoo.Batching.Config):
        separator: str = "\t"
        """Text that separates source and target. It must be a single token, and the target sequence starts with it.
        Default: a tab."""

    config: Config

    def __init__(
        self,
        config: Config,
        store: gptzoo.TokenStore,
        tokenizer: gptzoo.Tokenizer,
        length: int,
        seed: int,
    ):
        super().__init__(config, store, tokenizer, length, seed)
        self.separator = self._separator_token(self.config.separator)
        self.end = np.asarray(tokenizer.separator(), dtype=np.int64)  # the tokens that end a document
        self.pairs = {split: self._find_pairs(split) for split in ("train", "val")}
        self.n_samples = len(self.pairs["train"])
        self.val_bytes = len(tokenizer.decode_bytes(self._target_tokens("val")))
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def train_batch(self, first: int, count: int) -> Batch:
        epochs, indices = np.divmod(np.arange(first, first + count), self.n_samples)
        documents = [self._document_order(epoch)[indices[epochs == epoch]] for epoch in np.unique(epochs).tolist()]
        return self._batch("train", np.concatenate(documents))

    def validation_batches(self, max_tokens: int) -> Iterator[Batch]:
        n_documents = len(self.pairs["val"])
        batch_size = max(1, max_tokens // (2 * self.length))  # a row holds a source and a target
        for first in range(0, n_documents, batch_size):
            yield self._batch("val", np.arange(first, min(first + batch_size, n_documents)))

    def example_prompt(self) -> list[int]:
        begin, separator, _ = self.pairs["val"][0].tolist()
        return self.store.val[begin : separator + 1].tolist()

    def _document_order(self, epoch: int) -> np.ndarray:
        """Return the order of the documents in an epoch, a function of (seed, epoch). The last order is cached."""
        if epoch != self._epoch:
            # numpy guarantees the same raw bits in every version, but not the same shuffle.
            bits = np.random.Philox(key=np.array([self.seed % 2**64, epoch], dtype=np.uint64))
            self._epoch, self._order = epoch, np.argsort(bits.random_raw(self.n_samples), kind="stable")
        return self._order

    def _batch(self, split: str, documents: np.ndarray) -> Batch:
        tokens, pairs = getattr(self.store, split), self.pairs[split][documents].tolist()
        decoder_tokens = [np.concatenate([tokens[separator:end], self.end]) for _, separator, end in pairs]
        return {
            "tokens": _pad([sequence[:-1] for sequence in decoder_tokens], 0),
            "targets": _pad([sequence[1:] for sequence in decoder_tokens], gptzoo.IGNORED_TARGET),
            "source": _pad([tokens[begin:separator] for begin, separator, _ in pairs], _NO_TOKEN),
        }

    def _target_tokens(self, split: str) -> list[int]:
        """Return the target tokens of all documents of a split, without the ends, which are not text."""
        tokens, pairs = getattr(self.store, split), self.pairs[split].tolist()
        return np.concatenate([tokens[separator + 1 : end] for _, separator, end in pairs]).tolist()

    def _separator_token(self, separator: str) -> int:
        try:
            ids = list(self.tokenizer.encode_continuation(separator))
        except gptzoo.DataError as error:
            raise gptzoo.DataError(f"batching 'pairs': separator: {error}") from None
        if len(ids) != 1:
            raise gptzoo.DataError(
                f"batching 'pairs': tokenizer {self.tokenizer.config.type!r} encodes the separator {separator!r} as "
                f"{len(ids)} tokens; use a separator that is a single token"
            )
        return ids[0]

    def _find_pairs(self, split: str) -> np.ndarray:
        """Return int64 (n_documents, 3): the indices of each document's begin, separator and end.

        Raises DataError for the first document that is not a pair or is too long.
        """
        tokens, spans = getattr(self.store, split), self.store.spans[split]
        begin, end = spans[:, 0], spans[:, 1]
        separators = np.flatnonzero(tokens == self.separator)
        separator = np.append(separators, len(tokens))[np.searchsorted(separators, begin)]
        n_source, n_target = separator - begin, end - separator - 1 + len(self.end)
        text, length = self.config.separator, self.length
        reasons = {
            f"no separator {text!r} between source and target; add it, or set `separator` to the one in the data "
            "(a tokenizer that merges characters may hide it: use 'byte' or 'char')": separator >= end,
            f"no source before the separator {text!r}; add a source or remove the document": n_source == 0,
            f"the source is longer than context_length {length}; shorten it or raise context_length": n_source > length,
            f"the target with its end is longer than context_length {length}; shorten it or raise "
            "context_length": n_target > length,
        }
        for reason, affected in reasons.items():
            if affected.any():
                number = int(np.argmax(affected)) + 1
                raise gptzoo.DataError(f"batching 'pairs', {split} split, document {number}: {reason}")
        return np.stack([begin, separator, end], axis=1)


def _pad(sequences: Sequence[np.ndarray], fill: int) -> np.ndarray:
    """Pad the sequences at the end with `fill`. Return int64 (B, longest sequence)."""
    padded = np.full((len(sequences), max(map(len, sequences))), fill, dtype=np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded

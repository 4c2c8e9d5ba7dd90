"""The kind `batching`: how stored tokens become the samples that a model trains on and is measured with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from gptzoo.component import Component, Config
from gptzoo.data.batching.order import Order, evaluation_windows, windows
from gptzoo.data.batching.token_dropout import with_noise
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.tokenizer import Tokenizer

_OPENING = 8  # tokens

Batch = dict[str, np.ndarray]  # int64, batch first: arguments of the model's forward, `tokens` and `targets` among them


class Batching(Component):
    """Base of the kind. Samples are numbered without end, and each is a function of its number and the seed alone.

    So there is no position to save, and a run that is resumed reads on exactly where it was.
    """

    kind = "batching"

    provided_inputs: ClassVar[frozenset[str]] = frozenset()
    """What its batches hold beside `tokens` and `targets`; the architecture must take each in its forward."""

    whole_documents: ClassVar[bool] = False
    """Each sample is one whole document, so what a model writes after it has learned from them ends as documents do."""

    n_samples: int
    """Samples of one epoch."""
    val_bytes: int
    """UTF-8 bytes of text that the targets of `val` stand for, all together."""

    def __init__(self, config: Config, store: TokenStore, tokenizer: Tokenizer, length: int, seed: int):
        """Rows are at most `length` tokens long. Raises DataError when the store cannot be cut into samples."""
        self.config: Any = config
        self.store = store
        self.tokenizer = tokenizer
        self.length = length
        self.seed = seed

    @classmethod
    def given(cls, config: Any) -> frozenset[str]:
        """What of `provided_inputs` its batches hold with these options."""
        return cls.provided_inputs

    def train(self, first: int, count: int) -> Batch:
        """Samples number first, first + 1, … of training. Targets of -100 do not count."""
        raise TypeError(f"{type(self).__name__} does not implement train")

    def val(self, max_tokens: int) -> Iterator[Batch]:
        """The held-out text, each of its tokens predicted once, in batches of up to `max_tokens` or of one row."""
        raise TypeError(f"{type(self).__name__} does not implement val")

    def opening(self) -> list[int]:
        """How the held-out text begins: a prompt that suits any model that was trained with these batches."""
        return self.store.val[:_OPENING].tolist()


class NoisyBatching(Batching):
    """Base of batchings whose training inputs can be disturbed."""

    class Config(Batching.Config):
        token_dropout: float = Field(0.0, ge=0.0, lt=1.0)
        """Share of the inputs that are replaced by random tokens of the training text; in training only."""

    def disturbed(self, batch: Batch, first: int) -> Batch:
        """A batch of training samples number first, first + 1, …, with its token dropout."""
        share = self.config.token_dropout
        if not share:
            return batch
        return {**batch, "tokens": with_noise(batch["tokens"], first, share, self.store.train, self.seed)}


class Windows(NoisyBatching):
    """The text as one stream, cut into windows of context_length anew in each epoch; documents may meet in a window."""

    name = "windows"

    def __init__(self, config: Config, store: TokenStore, tokenizer: Tokenizer, length: int, seed: int):
        super().__init__(config, store, tokenizer, length, seed)
        self.order = Order(len(store.train), length, seed)
        self.n_samples = self.order.n_windows
        self.val_bytes = bytes_after_first(store, tokenizer)

    def train(self, first: int, count: int) -> Batch:
        inputs, targets = windows(self.store.train, self.order.starts(first, count), self.length)
        return self.disturbed({"tokens": inputs, "targets": targets}, first)

    def val(self, max_tokens: int) -> Iterator[Batch]:
        text = self.store.val
        at_once = max(1, max_tokens // self.length)
        found = list(evaluation_windows(len(text), self.length))
        whole = np.array([start for start, size in found if size == self.length], dtype=np.int64)
        for first in range(0, len(whole), at_once):
            inputs, targets = windows(text, whole[first : first + at_once], self.length)
            yield {"tokens": inputs, "targets": targets}
        for start, size in found[len(whole) :]:  # the shorter last one is a batch of its own
            inputs, targets = windows(text, np.array([start]), size)
            yield {"tokens": inputs, "targets": targets}


def bytes_after_first(store: TokenStore, tokenizer: Tokenizer) -> int:
    """UTF-8 bytes of the held-out text without its first token, which nothing predicts."""
    return store.n_bytes["val"] - len(tokenizer.decode_bytes([int(store.val[0])]))

"""The base class of batchings, which turn stored tokens into training and validation batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from gptzoo.component import Component, Config
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.tokenizer import Tokenizer

_EXAMPLE_PROMPT_TOKENS = 8

Batch = dict[str, np.ndarray]  # int64, batch first: keyword arguments of the model's forward, with `tokens`, `targets`


class Batching(Component):
    """Base class of batchings. Training samples are numbered without end.

    A sample is a pure function of its number and the seed, so there is no reader position to save: a resumed run
    continues exactly where it stopped.
    """

    kind = "batching"

    provided_inputs: ClassVar[frozenset[str]] = frozenset()
    """Names that a batch can hold besides `tokens` and `targets`. The architecture's forward must accept them."""

    whole_documents: ClassVar[bool] = False
    """True if each sample is one whole document, so that a trained model ends its texts as documents end."""

    reads: ClassVar[Literal["documents", "samples"]] = "documents"
    """Form of the data that this batching reads, as corpora provide it."""

    metric_names: tuple[str, ...] = ()
    """Names of the metrics that `hits` returns for validation batches. Without any, no predictions are computed."""

    n_samples: int
    """Number of samples in one epoch, in which each token is a target at most once."""
    val_bytes: int
    """UTF-8 bytes of the held-out text that `validation_batches` predict: those of its documents, without separators.
    Set by the base class; a subclass that predicts only a part of each document sets the bytes of these parts."""

    config: Config

    def __init__(self, config: Config, store: TokenStore, tokenizer: Tokenizer, length: int, seed: int):
        """Set up batches of at most `length` tokens per row.

        Raises DataError if the held-out text is too short. Text that is too short to train on raises DataError when
        `n_samples` is read: an evaluation reads only held-out text.
        """
        self.config = config
        self.store = store
        self.tokenizer = tokenizer
        self.length = length
        self.seed = seed
        self.val_bytes = store.n_bytes["val"]

    @classmethod
    def enabled_inputs(cls, config: Any) -> frozenset[str]:  # noqa: ANN401  a subclass takes its own Config
        """Return the names in `provided_inputs` that batches hold with these options."""
        return cls.provided_inputs

    def train_batch(self, first: int, count: int) -> Batch:
        """Return training samples first, first + 1, …, first + count - 1.

        The loss is the mean over all targets but those of -100 (`IGNORED_TARGET`).
        """
        raise TypeError(f"{type(self).__name__} does not implement train_batch")

    def validation_batches(self, max_tokens: int) -> Iterator[Batch]:
        """Yield batches that predict each held-out token once, of up to `max_tokens` tokens or one row."""
        raise TypeError(f"{type(self).__name__} does not implement validation_batches")

    def hits(self, batch: Batch, predictions: np.ndarray) -> Mapping[str, tuple[int, int]]:
        """Return (number right, number asked) for each of `metric_names` in a validation batch.

        predictions: the likeliest token at each position (B, T), of any value where the target is ignored.
        """
        raise TypeError(f"{type(self).__name__} does not implement hits")

    @property
    def chance(self) -> Mapping[str, float]:
        """Expected metrics of the best predictor without context, by name. Default: unknown."""
        return {}

    def example_prompt(self) -> list[int]:
        """Return the first tokens of the held-out text, a prompt for any model trained with these batches."""
        return list(map(int, self.store.val[:_EXAMPLE_PROMPT_TOKENS]))

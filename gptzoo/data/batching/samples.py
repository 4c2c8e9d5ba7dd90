"""The batching `samples`: the samples that a corpus generates, one per row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gptzoo.data.batching.batching import Batch, Batching
from gptzoo.data.batching.permutation import permute
from gptzoo.data.corpora.samples import Sample
from gptzoo.data.sample_store import bytes_of_targets
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError
from gptzoo.utils.seeds import derive_seed
from gptzoo.utils.targets import IGNORED_TARGET


class SampleBatching(Batching):
    """Generated samples, one per row, such as those of a synthetic task. The loss counts only the targets asked for.

    An epoch visits every training sample once, in a random order. Validation reads all held-out samples. The metrics
    are those that the corpus declares.
    """

    name = "samples"
    reads = "samples"
    whole_documents = True

    def __init__(self, config: Batching.Config, store: TokenStore, tokenizer: Tokenizer, length: int, seed: int):
        super().__init__(config, store, tokenizer, length, seed)
        if store.samples is None:
            raise DataError("batching 'samples': the data are documents of text. Use batching 'windows' or 'packed'")
        self.corpus, self.held_out = store.samples.corpus, store.samples.held_out
        self.metric_names = self.corpus.metric_names
        self.val_bytes = sum(bytes_of_targets(sample.targets, tokenizer) for sample in self._evaluated())

    @property
    def n_samples(self) -> int:  # type: ignore[override]  # raises DataError if the samples are too long
        if self.corpus.sample_length > self.length:
            raise DataError(
                f"corpus {self.corpus.config.type!r}: its samples of {self.corpus.sample_length} tokens are longer "
                f"than context_length {self.length}. Raise context_length, or use shorter samples"
            )
        return self.corpus.n_samples("train")

    @property
    def chance(self) -> Mapping[str, float]:
        return self.corpus.chance

    def train_batch(self, first: int, count: int) -> Batch:
        epochs, indices = np.divmod(np.arange(first, first + count, dtype=np.int64), self.n_samples)
        for epoch in np.unique(epochs).tolist():
            rows = epochs == epoch
            indices[rows] = permute(indices[rows], self.n_samples, derive_seed(self.seed, epoch, "order"))
        return _batch([self.corpus.sample("train", index) for index in indices.tolist()])

    def validation_batches(self, max_tokens: int) -> Iterator[Batch]:
        batch_size = max(1, max_tokens // self.corpus.sample_length)
        samples: list[Sample] = []
        for sample in self._evaluated():
            samples.append(sample)
            if len(samples) == batch_size:
                yield _batch(samples)
                samples = []
        if samples:
            yield _batch(samples)

    def hits(self, batch: Batch, predictions: np.ndarray) -> Mapping[str, tuple[int, int]]:
        right: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        for tokens, targets, predicted in zip(batch["tokens"], batch["targets"], predictions, strict=True):
            for name, (n_right, n_asked) in self.corpus.hits(Sample(tokens, targets), predicted).items():
                right[name] += n_right
                asked[name] += n_asked
        return {name: (right[name], asked[name]) for name in self.metric_names}

    def example_prompt(self) -> list[int]:
        """Return the first held-out sample up to the first token whose successor is asked for."""
        sample = next(self._evaluated())
        first_asked = int(np.argmax(sample.targets != IGNORED_TARGET))
        return list(map(int, sample.tokens[: first_asked + 1]))

    def _evaluated(self) -> Iterator[Sample]:
        """Yield the samples that evaluations read: the held-out samples, unless the splits are swapped."""
        if self.held_out == "val":
            yield from self.corpus.held_out_samples
        else:
            yield from (self.corpus.sample("train", index) for index in range(self.corpus.n_samples("train")))


def _batch(samples: Sequence[Sample]) -> Batch:
    tokens, targets = zip(*samples, strict=True)
    return {"tokens": np.stack(tokens), "targets": np.stack(targets)}

"""Token dropout: random replacement of input tokens, a regulariser."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from gptzoo.data.batching.batching import Batch, Batching
from gptzoo.data.batching.permutation import splitmix64
from gptzoo.utils.seeds import derive_seed


class TokenDropoutBatching(Batching):
    """Base class of batchings with the option `token_dropout`."""

    class Config(Batching.Config):
        token_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
        """Probability of replacing a training input token by a random token of the training text. Default: off."""

    config: Config

    def apply_token_dropout(self, batch: Batch, first: int) -> Batch:
        """Return training samples first, first + 1, … with token dropout applied to their inputs."""
        probability = self.config.token_dropout
        if not probability:
            return batch
        tokens = replace_tokens(batch["tokens"], first, probability, self.store.train, self.seed)
        return {**batch, "tokens": tokens}


def replace_tokens(tokens: np.ndarray, first: int, probability: float, text: np.ndarray, seed: int) -> np.ndarray:
    """Replace each of the (B, T) inputs of samples first, first + 1, … with `probability` by a random token of `text`.

    A replacement is as frequent as its token is in the text ("unigram noising", Xie et al. 2017, Data Noising as
    Smoothing in Neural Network Language Models, arXiv:1703.02573). It is a pure function of seed, sample and column.
    """
    n_rows, n_columns = tokens.shape
    samples = np.arange(first, first + n_rows, dtype=np.uint64)[:, None]
    columns = np.arange(n_columns, dtype=np.uint64)
    bits = splitmix64(splitmix64(samples ^ np.uint64(derive_seed(seed, "token_dropout"))) ^ columns)  # (B, T)
    dropped = bits < np.uint64(probability * 2**64)
    positions = splitmix64(bits[dropped]) % np.uint64(len(text))
    noisy = tokens.copy()
    noisy[dropped] = text[positions]
    return noisy

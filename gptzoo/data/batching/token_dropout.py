"""Token dropout: inputs that are replaced by noise, so that a model learns not to lean on any single one of them."""

from __future__ import annotations

import numpy as np

from gptzoo.data.batching.order import mix
from gptzoo.utils.seeds import derive


def with_noise(tokens: np.ndarray, first: int, share: float, text: np.ndarray, seed: int) -> np.ndarray:
    """(B, T) inputs of samples first, first + 1, …, each replaced with probability `share` by a token of `text`.

    Drawn from the text, noise is as frequent as the tokens are ("unigram noising", Xie et al. 2017, Data Noising as
    Smoothing in Neural Network Language Models, arXiv:1703.02573). A function of (seed, sample number, column).
    """
    n_rows, n_columns = tokens.shape
    samples = np.arange(first, first + n_rows, dtype=np.uint64)[:, None]
    columns = np.arange(n_columns, dtype=np.uint64)
    bits = mix(mix(samples ^ np.uint64(derive(seed, "token_dropout"))) ^ columns)  # (B, T)
    dropped = bits < np.uint64(share * 2**64)
    drawn = mix(bits[dropped]) % np.uint64(len(text))
    noisy = tokens.copy()
    noisy[dropped] = text[drawn]
    return noisy

"""In-context recall of the MAD suite: a stream of key-value pairs in which keys recur with the same value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from pydantic import Field, model_validator

import gptzoo


class InContextRecall(gptzoo.SampleCorpus):
    """In-context recall: keys recur in a stream of pairs, and the value of a key that was seen before is asked for.

    Keys and values alternate. A key has one value in a sample, drawn independently of other keys and samples. The last
    key always was there before. Several values per sample are asked for, as in MAD with `multi_query`.
    """

    name = "in_context_recall"
    paper = "Poli et al. 2024, Mechanistic Design and Scaling of Hybrid Architectures (MAD), arXiv:2403.17844"

    class Config(gptzoo.SampleCorpus.Config):
        length: int = Field(default=128, ge=4)
        """Tokens in a sample, an even number."""
        n_keys: int = Field(default=8, ge=1, le=10_000)
        """Number of keys."""
        n_values: int = Field(default=8, ge=2, le=10_000)
        """Number of values."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            if self.length % 2:
                raise gptzoo.option_error(f"length must be even, for pairs of a key and a value, got {self.length}")
            return self

    config: Config

    @property
    def vocab_size(self) -> int:
        return 1 + self.config.n_keys + self.config.n_values

    @property
    def sample_length(self) -> int:
        return self.config.length

    @property
    def chance(self) -> Mapping[str, float]:
        return {"accuracy": 1 / self.config.n_values}

    def generate(self, draws: gptzoo.Draws) -> gptzoo.Sample:
        n_pairs = self.config.length // 2
        is_noise = self.noisy_places(draws, n_pairs)
        keys = draws.below(self.config.n_keys, n_pairs)
        earlier = np.flatnonzero(~is_noise[:-1])
        keys[-1] = keys[earlier[draws.one_below(len(earlier))]]
        value_of_key = draws.below(self.config.n_values, self.config.n_keys)
        first_key, first_value = 1, 1 + self.config.n_keys
        tokens = np.empty(2 * n_pairs, dtype=np.int64)
        tokens[::2], tokens[1::2] = first_key + keys, first_value + value_of_key[keys]
        tokens[np.repeat(is_noise, 2)] = self.noise(draws, 2 * int(is_noise.sum()))
        seen = _is_repeated(np.where(is_noise, -1 - np.arange(n_pairs), keys))
        queries = 2 * np.flatnonzero(seen)
        return gptzoo.Sample.asking(tokens, queries, tokens[queries + 1])

    def noisy_places(self, draws: gptzoo.Draws, n_pairs: int) -> np.ndarray:
        """Return a bool mask (n_pairs,) of noise. It is False for the last pair and for at least one before it."""
        return np.zeros(n_pairs, dtype=bool)

    def noise(self, draws: gptzoo.Draws, n: int) -> np.ndarray:
        """Return `n` tokens of noise."""
        return np.empty(n, dtype=np.int64)


class NoisyRecall(InContextRecall):
    """Noisy in-context recall: in-context recall in which some pairs are replaced by noise with tokens of its own."""

    name = "noisy_recall"

    class Config(InContextRecall.Config):
        n_noise: int = Field(default=16, ge=1, le=10_000)
        """Number of different noise tokens, which are neither keys nor values."""
        noise: float = Field(default=0.2, ge=0.0, lt=1.0)
        """Share of the pairs that are replaced by noise."""

    config: Config

    @property
    def vocab_size(self) -> int:
        return super().vocab_size + self.config.n_noise

    def noisy_places(self, draws: gptzoo.Draws, n_pairs: int) -> np.ndarray:
        is_noise = draws.uniform(n_pairs) < self.config.noise
        is_noise[draws.one_below(n_pairs - 1)] = is_noise[-1] = False
        return is_noise

    def noise(self, draws: gptzoo.Draws, n: int) -> np.ndarray:
        return super().vocab_size + draws.below(self.config.n_noise, n)


def _is_repeated(numbers: np.ndarray) -> np.ndarray:
    """Return a mask that is True for each number that is equal to an earlier one."""
    repeated = np.ones(len(numbers), dtype=bool)
    repeated[np.unique(numbers, return_index=True)[1]] = False
    return repeated

"""Fuzzy in-context recall of the MAD suite: keys and values are motifs of several tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

import gptzoo

_PADDING = 0


class FuzzyRecall(gptzoo.SampleCorpus):
    """Fuzzy in-context recall: keys and values are motifs of one to several tokens, and known keys ask for all tokens.

    The tokens of a motif are different. Each sample has `n_pairs` pairs with different keys, which recur in random
    order. When a key recurs, every token of its value is asked for. Padding fills the start of a sample. MAD draws each
    pair anew from all motifs, so that keys hardly recur before the last one.
    """

    name = "fuzzy_recall"
    paper = "Poli et al. 2024, Mechanistic Design and Scaling of Hybrid Architectures (MAD), arXiv:2403.17844"

    class Config(gptzoo.SampleCorpus.Config):
        length: PositiveInt = 128
        """Tokens in a sample."""
        n_pairs: PositiveInt = 8
        """Number of different pairs in a sample."""
        n_keys: int = Field(default=8, ge=1, le=10_000)
        """Number of tokens that keys are made of."""
        n_values: int = Field(default=8, ge=2, le=10_000)
        """Number of tokens that values are made of."""
        key_size: int = Field(default=3, ge=1, le=16)
        """Largest number of tokens in a key."""
        value_size: int = Field(default=3, ge=1, le=16)
        """Largest number of tokens in a value."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            for part in ("key", "value"):
                size, n_tokens = getattr(self, f"{part}_size"), getattr(self, f"n_{part}s")
                if size > n_tokens:
                    raise gptzoo.option_error(
                        f"{part}_size {size} needs as many different tokens, but n_{part}s is {n_tokens}"
                    )
            n_motifs = sum(math.perm(self.n_keys, size) for size in range(1, self.key_size + 1))
            if self.n_pairs > n_motifs:
                raise gptzoo.option_error(f"n_pairs {self.n_pairs} are more than the {n_motifs} different keys")
            if self.length < (least := (self.n_pairs + 1) * (self.key_size + self.value_size)):
                raise gptzoo.option_error(
                    f"length must be at least {least}, so that every pair and a question fit, got {self.length}"
                )
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
        n, n_more = self.config.n_values, (self.config.value_size - 1) / 2  # value tokens after the first, on average
        later = n_more / (n - 1)  # a token of a value is not the one before it
        return {"accuracy": (1 / n + later) / (1 + n_more)}

    def generate(self, draws: gptzoo.Draws) -> gptzoo.Sample:
        config = self.config
        pairs: dict[tuple[int, ...], tuple[int, ...]] = {}
        while len(pairs) < config.n_pairs:
            key = _motif(draws, 1, config.n_keys, config.key_size)
            pairs.setdefault(key, _motif(draws, 1 + config.n_keys, config.n_values, config.value_size))
        keys, values = list(pairs), list(pairs.values())
        tokens: list[int] = []
        asked: list[int] = []
        longest = config.key_size + config.value_size
        n_seen = 0
        while len(tokens) + longest <= config.length:
            # All pairs come once, and then any of them.
            pair = n_seen if n_seen < config.n_pairs else draws.one_below(config.n_pairs)
            tokens += keys[pair]
            if n_seen >= config.n_pairs:
                asked += range(len(tokens), len(tokens) + len(values[pair]))
            tokens += values[pair]
            n_seen += 1
        n_padding = config.length - len(tokens)
        padded = np.array([_PADDING] * n_padding + tokens, dtype=np.int64)
        answers = n_padding + np.array(asked, dtype=np.int64)
        return gptzoo.Sample.asking(padded, answers - 1, padded[answers])


def _motif(draws: gptzoo.Draws, first_token: int, n_tokens: int, max_size: int) -> tuple[int, ...]:
    """Return one to `max_size` different tokens."""
    size = 1 + draws.one_below(max_size)
    return tuple((first_token + draws.distinct(n_tokens, size)).tolist())

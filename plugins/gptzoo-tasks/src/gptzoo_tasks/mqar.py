"""Multi-query associative recall: key-value pairs, and later some of the keys again, whose values are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

import gptzoo

_BLANK = 0


class Mqar(gptzoo.SampleCorpus):
    """Multi-query associative recall (MQAR): every key of a list of pairs comes again, and its value is asked for.

    A sample starts with `n_pairs` keys, each followed by its value. All keys are different, and so are all values. The
    keys return once each at random places, and the target there is the value. As in the paper, the value itself is not
    among the inputs there. The gaps between pairs and queries follow a power law.

    Filler never is a key of the sample, so that it cannot overwrite a pair.
    """

    name = "mqar"
    paper = "Arora et al. 2023, Zoology: Measuring and Improving Recall in Efficient Language Models, arXiv:2312.04927"

    class Config(gptzoo.SampleCorpus.Config):
        length: PositiveInt = 64
        """Tokens in a sample. An even number, at least 4 for each pair."""
        n_pairs: PositiveInt = 4
        """Number of key-value pairs, and of queries."""
        vocab_size: int = Field(default=64, ge=4, le=30_000)
        """Number of token ids, an even number: a blank, keys in the lower half, values in the upper half. The paper
        uses 8192."""
        power: PositiveFloat = 0.01
        """Exponent of the power law of the gaps: the probability of a place falls as place ** (power - 1). 1: all
        places are equally likely."""
        filler: Literal["random", "blank"] = "random"
        """Tokens between the queries: random keys and values, but no key of the sample; or blanks, which is easier."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            n_keys = self.vocab_size // 2 - 1
            if self.vocab_size % 2:
                raise gptzoo.option_error(f"vocab_size must be even, got {self.vocab_size}")
            if self.length % 2 or self.length < 4 * self.n_pairs:
                least = 4 * self.n_pairs
                raise gptzoo.option_error(
                    f"length must be even and at least {least}, 4 for each pair, got {self.length}"
                )
            if self.n_pairs > n_keys:
                raise gptzoo.option_error(
                    f"vocab_size {self.vocab_size} has {n_keys} keys, too few for n_pairs {self.n_pairs}"
                )
            return self

    config: Config

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    @property
    def sample_length(self) -> int:
        return self.config.length

    @property
    def chance(self) -> Mapping[str, float]:
        return {"accuracy": 2 / self.config.vocab_size}

    def generate(self, draws: gptzoo.Draws) -> gptzoo.Sample:
        n_pairs, length, n_values = self.config.n_pairs, self.config.length, self.config.vocab_size // 2
        keys = 1 + draws.distinct(n_values - 1, n_pairs)
        values = n_values + draws.distinct(n_values, n_pairs)
        tokens = self._filler(draws, keys)
        tokens[0 : 2 * n_pairs : 2], tokens[1 : 2 * n_pairs : 2] = keys, values
        n_places = (length - 2 * n_pairs) // 2
        places = draws.distinct_by_weight(np.arange(1, n_places + 1) ** (self.config.power - 1), n_pairs)
        queries = 2 * n_pairs + 2 * places
        tokens[queries] = keys
        return gptzoo.Sample.asking(tokens, queries, values)

    def _filler(self, draws: gptzoo.Draws, keys: np.ndarray) -> np.ndarray:
        if self.config.filler == "blank":
            return np.full(self.config.length, _BLANK, dtype=np.int64)
        return draws.below_without(self.config.vocab_size, np.append(keys, _BLANK), self.config.length)

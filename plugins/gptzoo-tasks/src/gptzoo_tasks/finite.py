"""Tasks with a finite set of facts: memorization of pairs, and modular addition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

import gptzoo


class Memorization(gptzoo.SampleCorpus):
    """Memorization: fixed facts, each a key with its value, that are not in the context and have to be learned.

    A sample is a sequence of keys, each followed by an insert token, which asks for the key's value. The seed of the
    corpus determines the facts, which all samples share. Held-out samples are other sequences of the same keys.
    """

    name = "memorization"
    paper = "Poli et al. 2024, Mechanistic Design and Scaling of Hybrid Architectures (MAD), arXiv:2403.17844"

    class Config(gptzoo.SampleCorpus.Config):
        length: int = Field(default=32, ge=2)
        """Tokens in a sample, an even number."""
        n_facts: int = Field(default=128, ge=2, le=15_000)
        """Number of facts. All keys are different, and so are all values."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            if self.length % 2:
                raise gptzoo.option_error(f"length must be even, for keys and insert tokens, got {self.length}")
            return self

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        self.value_of_key = gptzoo.Draws(config.type, "facts", config.seed).permutation(config.n_facts)

    @property
    def vocab_size(self) -> int:
        return 2 + 2 * self.config.n_facts

    @property
    def sample_length(self) -> int:
        return self.config.length

    @property
    def chance(self) -> Mapping[str, float]:
        return {"accuracy": 1 / self.config.n_facts}

    def generate(self, draws: gptzoo.Draws) -> gptzoo.Sample:
        n_facts, insert_token = self.config.n_facts, 1
        first_key, first_value = 2, 2 + n_facts
        keys = draws.below(n_facts, self.config.length // 2)
        tokens = np.full(self.config.length, insert_token, dtype=np.int64)
        tokens[::2] = first_key + keys
        return gptzoo.Sample.asking(tokens, np.arange(1, self.config.length, 2), first_value + self.value_of_key[keys])


class ModularAddition(gptzoo.SampleCorpus):
    """Modular addition (grokking): two numbers and an equals sign, which asks for their sum modulo `modulus`.

    There are modulus**2 samples, each an ordered pair. The seed of the corpus divides them: `n_train` for training, and
    `n_val` of the others held out. The papers have the moduli 97 and 113, two primes, and train on 30 to 50% of all
    pairs, with a large weight decay.
    """

    name = "modular_addition"
    paper = (
        "Power et al. 2022, Grokking, arXiv:2201.02177; Nanda et al. 2023, Progress Measures for Grokking, "
        "arXiv:2301.05217"
    )

    class Config(gptzoo.SampleCorpus.Config):
        modulus: int = Field(default=97, ge=2, le=1000)
        """Number of different summands, and modulus of their sum. It need not be prime."""
        n_train: PositiveInt = 4704
        """Number of pairs for training. Default: half of the 97**2 pairs."""
        n_val: PositiveInt = 1000
        """Number of held-out pairs."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            if self.n_train + self.n_val > self.modulus**2:
                raise gptzoo.option_error(
                    f"n_train {self.n_train} and n_val {self.n_val} are more than the {self.modulus**2} pairs of "
                    f"numbers below modulus {self.modulus}"
                )
            return self

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        self.order = gptzoo.Draws(config.type, config.seed).permutation(config.modulus**2)

    @property
    def vocab_size(self) -> int:
        return 2 + self.config.modulus

    @property
    def sample_length(self) -> int:
        return 3

    @property
    def chance(self) -> Mapping[str, float]:
        return {"accuracy": 1 / self.config.modulus}

    def sample(self, split: Literal["train", "val"], index: int) -> gptzoo.Sample:
        modulus = self.config.modulus
        pair = int(self.order[index if split == "train" else -1 - index])
        a, b = divmod(pair, modulus)
        first_number, equals = 2, 1
        tokens = np.array([first_number + a, first_number + b, equals], dtype=np.int64)
        return gptzoo.Sample.asking(tokens, np.array([2]), np.array([first_number + (a + b) % modulus]))

"""Copying tasks of the MAD suite: selective copying and compression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

import gptzoo

_BLANK = 0


class SelectiveCopying(gptzoo.SampleCorpus):
    """Selective copying: tokens at random places among blanks are to be repeated, in order, after a copy token.

    The copy token is followed by one blank for each token to copy, and each asks for its token.
    """

    name = "selective_copying"
    paper = (
        "Gu and Dao 2023, Mamba, arXiv:2312.00752; Poli et al. 2024, Mechanistic Design and Scaling of Hybrid "
        "Architectures (MAD), arXiv:2403.17844"
    )

    class Config(gptzoo.SampleCorpus.Config):
        length: PositiveInt = 128
        """Tokens in a sample: those to copy and the blanks between them, the copy token, and the blanks that ask."""
        n_copied: PositiveInt = 8
        """Number of tokens to copy."""
        n_tokens: int = Field(default=14, ge=2, le=30_000)
        """Number of different tokens that are copied."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            if self.length < (least := 2 * self.n_copied + 1):
                raise gptzoo.option_error(
                    f"length must be at least {least}, twice n_copied and the copy token, got {self.length}"
                )
            return self

    config: Config

    @property
    def vocab_size(self) -> int:
        return 2 + self.config.n_tokens

    @property
    def sample_length(self) -> int:
        return self.config.length

    @property
    def chance(self) -> Mapping[str, float]:
        return {"accuracy": 1 / self.config.n_tokens}

    def generate(self, draws: gptzoo.Draws) -> gptzoo.Sample:
        length, n_copied, copy_token = self.config.length, self.config.n_copied, 1 + self.config.n_tokens
        n_before = length - n_copied - 1  # places before the copy token
        copied = 1 + draws.below(self.config.n_tokens, n_copied)
        tokens = np.full(length, _BLANK, dtype=np.int64)
        tokens[np.sort(draws.distinct(n_before, n_copied))] = copied
        tokens[n_before] = copy_token
        return gptzoo.Sample.asking(tokens, np.arange(n_before + 1, length), copied)


class Compression(gptzoo.SampleCorpus):
    """Compression: a random sequence, a compression token, and then a blank for each token that asks for it.

    In MAD, a separate decoder reconstructs the tokens from the output at the compression token alone. A language model
    has no such decoder, so here attention may look back at the tokens. What is compressed is the state of a recurrent
    model, and for attention this is a copying task by position.
    """

    name = "compression"
    paper = "Poli et al. 2024, Mechanistic Design and Scaling of Hybrid Architectures (MAD), arXiv:2403.17844"

    class Config(gptzoo.SampleCorpus.Config):
        length: int = Field(default=65, ge=3)
        """Tokens in a sample, an odd number: the sequence, the compression token, and as many blanks."""
        n_tokens: int = Field(default=14, ge=2, le=10_000)
        """Number of different tokens in the sequence."""
        n_noise: int = Field(default=16, ge=1, le=10_000)
        """Number of different noise tokens."""
        noise: float = Field(default=0.0, ge=0.0, lt=1.0)
        """Share of the sequence that is replaced by noise tokens, which are not asked for."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            if not self.length % 2:
                raise gptzoo.option_error(f"length must be odd, for a sequence and as many blanks, got {self.length}")
            return self

    config: Config

    @property
    def vocab_size(self) -> int:
        return 2 + self.config.n_tokens + self.config.n_noise

    @property
    def sample_length(self) -> int:
        return self.config.length

    @property
    def chance(self) -> Mapping[str, float]:
        return {"accuracy": 1 / self.config.n_tokens}

    def generate(self, draws: gptzoo.Draws) -> gptzoo.Sample:
        n_tokens, size = self.config.n_tokens, self.config.length // 2
        compression_token, first_noise = 1 + n_tokens, 2 + n_tokens
        sequence = 1 + draws.below(n_tokens, size)
        is_noise = draws.uniform(size) < self.config.noise
        is_noise[draws.one_below(size)] = False  # so that a sample asks for a token
        noise = first_noise + draws.below(self.config.n_noise, size)
        shown = np.where(is_noise, noise, sequence)
        tokens = np.concatenate([shown, [compression_token], np.full(size, _BLANK)]).astype(np.int64)
        asked = np.flatnonzero(~is_noise)
        return gptzoo.Sample.asking(tokens, size + 1 + asked, sequence[asked])

"""Tasks that look up one place of a long context: induction heads, and a passkey in a haystack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

import gptzoo

_MARKER = 1


class InductionHeads(gptzoo.SampleCorpus):
    """Induction heads: a special token occurs once in a random sequence, and again at its end.

    Only the last position has a target: the token that followed the first occurrence. Train on one length and add
    longer `levels`, as in the paper.
    """

    name = "induction_heads"
    paper = "Olsson et al. 2022, In-context Learning and Induction Heads, arXiv:2209.11895; Gu and Dao 2023, Mamba"

    class Config(gptzoo.SampleCorpus.Config):
        length: int = Field(default=64, ge=3)
        """Tokens in a sample."""
        n_tokens: int = Field(default=16, ge=2, le=30_000)
        """Number of different tokens besides the special one."""

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
        length = self.config.length
        tokens = _MARKER + 1 + draws.below(self.config.n_tokens, length)
        place = draws.one_below(length - 2)  # the token after it comes before the last position
        tokens[place] = tokens[-1] = _MARKER
        return gptzoo.Sample.asking(tokens, np.array([length - 1]), tokens[place + 1])


class Passkey(gptzoo.SampleCorpus):
    """Passkey retrieval (needle in a haystack): digits after a marker, hidden in filler, are asked for at the end.

    The marker comes again after the filler, and each digit of the passkey is asked for, with the digits before it among
    the inputs. The place of the passkey is uniform. Filler has neither digits nor the marker. Add `levels` that are
    longer than the training samples.
    """

    name = "passkey"
    paper = "Mohtashami and Jaggi 2023, Landmark Attention, arXiv:2305.16300"

    class Config(gptzoo.SampleCorpus.Config):
        length: PositiveInt = 128
        """Tokens in a sample."""
        n_digits: PositiveInt = 5
        """Number of digits of the passkey."""
        n_filler: int = Field(default=20, ge=1, le=10_000)
        """Number of different filler tokens."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            if self.length < (least := 2 * self.n_digits + 1):
                raise gptzoo.option_error(
                    f"length must be at least {least}, the marker and the passkey twice, got {self.length}"
                )
            return self

    config: Config

    @property
    def vocab_size(self) -> int:
        return 12 + self.config.n_filler

    @property
    def sample_length(self) -> int:
        return self.config.length

    @property
    def chance(self) -> Mapping[str, float]:
        return {"accuracy": 0.1}

    def generate(self, draws: gptzoo.Draws) -> gptzoo.Sample:
        length, n_digits = self.config.length, self.config.n_digits
        first_digit, first_filler = _MARKER + 1, _MARKER + 11
        passkey = first_digit + draws.below(10, n_digits)
        tokens = first_filler + draws.below(self.config.n_filler, length)
        question = length - n_digits  # position of the second marker; the last digit is only a target
        place = draws.one_below(question - n_digits)
        tokens[place], tokens[place + 1 : place + 1 + n_digits] = _MARKER, passkey
        tokens[question], tokens[question + 1 :] = _MARKER, passkey[:-1]
        return gptzoo.Sample.asking(tokens, np.arange(question, length), passkey)

"""The likelihood of a text under a model, as loss, perplexity and bits per byte."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Likelihood:
    """The total loss of a text in nats, with the number of predicted tokens and the UTF-8 bytes of the text."""

    nats: float
    n_tokens: int
    n_bytes: int

    @property
    def loss(self) -> float:
        """The cross-entropy in nats per token."""
        return self.nats / self.n_tokens

    @property
    def perplexity(self) -> float:
        """The perplexity, exp(loss)."""
        return math.exp(min(self.loss, 700.0))  # exp(710) overflows

    @property
    def bits_per_byte(self) -> float:
        """The loss in bits per byte of UTF-8 text, which is comparable between tokenizers."""
        return self.nats / math.log(2) / self.n_bytes

"""How likely a model finds text, in the units that people compare."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Likelihood:
    """What a model makes of text: its loss summed over tokens, how many they are, and the bytes that they stand for."""

    nats: float
    n_tokens: int
    n_bytes: int

    @property
    def loss(self) -> float:
        """Nats per token: the cross-entropy."""
        return self.nats / self.n_tokens

    @property
    def perplexity(self) -> float:
        """Among how many tokens, all equally likely, the choice would be as hard."""
        return math.exp(min(self.loss, 700.0))  # exp(710) is more than a float holds

    @property
    def bits_per_byte(self) -> float:
        """Of UTF-8 text: it compares models of different tokenizers."""
        return self.nats / math.log(2) / self.n_bytes

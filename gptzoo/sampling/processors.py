"""The kind `logits_processor`: one step from logits to the distribution that is sampled."""

from __future__ import annotations

from typing import Any

from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from gptzoo.component import Component, Config

NEVER = float("-inf")  # the logit of a token that cannot be chosen


class LogitsProcessor(Component):
    """Base of the kind. A processor keeps nothing between calls and leaves at least one token possible in each row."""

    kind = "logits_processor"

    config: Any

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits: Tensor, tokens: list[list[int]]) -> Tensor:
        """Logits (B, V) float32 and the tokens of each row so far, prompt included -> logits (B, V)."""
        raise TypeError(f"{type(self).__name__} does not implement __call__")


class Temperature(LogitsProcessor):
    """Divides the logits: below 1 sharper, above 1 flatter; 0 leaves the likeliest token alone (greedy)."""

    name = "temperature"

    class Config(LogitsProcessor.Config):
        value: NonNegativeFloat = 1.0
        """What the logits are divided by."""

    def __call__(self, logits: Tensor, tokens: list[list[int]]) -> Tensor:
        if self.config.value == 0:
            best = logits.argmax(dim=-1, keepdim=True)
            return logits.new_full(logits.shape, NEVER).scatter(-1, best, 0.0)
        return logits / self.config.value


class TopK(LogitsProcessor):
    """Keeps the `k` likeliest tokens; ties at the edge are broken by the lower id."""

    name = "top_k"
    paper = "Fan et al. 2018, Hierarchical Neural Story Generation, arXiv:1805.04833"

    class Config(LogitsProcessor.Config):
        k: PositiveInt = 50
        """How many."""

    def __call__(self, logits: Tensor, tokens: list[list[int]]) -> Tensor:
        order = logits.argsort(dim=-1, descending=True, stable=True)
        return logits.scatter(-1, order[:, self.config.k :], NEVER)


class TopP(LogitsProcessor):
    """Nucleus sampling: keeps the likeliest tokens up to and including the one that brings their probability to `p`."""

    name = "top_p"
    paper = "Holtzman et al. 2019, The Curious Case of Neural Text Degeneration, arXiv:1904.09751"

    class Config(LogitsProcessor.Config):
        p: float = Field(0.95, gt=0.0, le=1.0)
        """The probability that is kept."""

    def __call__(self, logits: Tensor, tokens: list[list[int]]) -> Tensor:
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        probabilities = ordered.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities  # what the likelier ones hold already
        return ordered.masked_fill(before >= self.config.p, NEVER).gather(-1, order.argsort(dim=-1))

"""The kind `logits_processor`: one step from logits to the distribution that is sampled.

Here are the base of the kind and what truncates; in `penalties.py` what depends on the tokens before, in
`constraints.py` and `grammar.py` what a text must or must not be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from gptzoo.component import Component, Config
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.sequence import TokenSequence

NEVER = float("-inf")  # the logit of a token that cannot be chosen

_GREEDY = 1e-5  # temperatures below it; logits divided by less could overflow
_FLAT = 1e30  # float32 ends at 3e38

# To sort a whole vocabulary takes a good part of the time of a small model; the likeliest so many are enough mostly.
_FIRST = (512, 8192)


class LogitsProcessor(Component):
    """Base of the kind. What it returns depends on its arguments alone; what it remembers only saves time.

    At least one token stays possible in each row. A processor that could exclude the last one leaves the row as it is,
    or, where its promise cannot be kept so, raises InputError.
    """

    kind = "logits_processor"

    constrains: ClassVar[bool] = False
    """It would rather raise InputError than break what it promises; it comes before those that promise nothing."""

    config: Any

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None):
        self.config = config
        self.tokenizer = tokenizer

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        """Logits (B, V) float32 of the next token of each row -> logits (B, V). It writes into neither argument.

        It may be asked about rows that have ended, as long as others beside them go on.
        """
        raise TypeError(f"{type(self).__name__} does not implement __call__")

    def finished(self, row: TokenSequence) -> bool:
        """Whether nothing may follow the tokens of this row. It is asked before the first token and after each."""
        return False

    def require_tokenizer(self) -> Tokenizer:
        """The model's tokenizer. Raises InputError where there is none."""
        if self.tokenizer is None:
            raise InputError(
                f"logits_processor {self.config.type!r} works on text and needs the model's tokenizer: sample from a "
                "folder that has a tokenizer.json, or give generate() a `tokenizer`"
            )
        return self.tokenizer


def build_processors(configs: Iterable[Config], tokenizer: Tokenizer | None = None) -> list[LogitsProcessor]:
    """The processors, in order. Raises InputError for one that lacks a tokenizer and for one that comes too late."""
    processors: list[LogitsProcessor] = []
    for config in configs:
        process = config.build(tokenizer)
        before = next((p.config.type for p in processors if not p.constrains), None)
        if process.constrains and before is not None:
            raise InputError(
                f"logits_processor {config.type!r} comes after {before!r}, which may leave nothing that it allows: "
                f"put {config.type!r} first"
            )
        processors.append(process)
    return processors


def processed(processors: Iterable[LogitsProcessor], logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
    """Logits (B, V) of the next token of each row, through all processors in order."""
    for process in processors:
        logits = process(logits, rows)
    return logits


class Temperature(LogitsProcessor):
    """Divides the logits: below 1 sharper, above 1 flatter; 0 leaves the likeliest token alone (greedy)."""

    name = "temperature"
    paper = "Ackley et al. 1985, A Learning Algorithm for Boltzmann Machines, Cognitive Science 9"

    class Config(LogitsProcessor.Config):
        value: NonNegativeFloat = 1.0
        """What the logits are divided by; below 0.00001 it is 0."""

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        if self.config.value < _GREEDY:
            best = logits.argmax(dim=-1, keepdim=True)
            return logits.new_full(logits.shape, NEVER).scatter(-1, best, 0.0)
        return logits / min(self.config.value, _FLAT)


class TopK(LogitsProcessor):
    """Keeps the `k` likeliest tokens; ties at the edge are broken by the lower id."""

    name = "top_k"
    paper = "Fan et al. 2018, Hierarchical Neural Story Generation, arXiv:1805.04833"

    class Config(LogitsProcessor.Config):
        k: PositiveInt = 50
        """How many."""

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        if self.config.k >= logits.shape[-1]:
            return logits
        best, order = logits.topk(self.config.k + 1, dim=-1)
        last, next_best = best[:, -2], best[:, -1]
        if ((last == next_best) & (last > NEVER)).any():  # topk does not say which of equal ones it takes
            order = logits.argsort(dim=-1, descending=True, stable=True)
        order = order[:, : self.config.k]
        return _only(logits, order, torch.ones_like(order, dtype=torch.bool))


class TopP(LogitsProcessor):
    """Nucleus sampling: keeps the likeliest tokens up to and including the one that brings their probability to `p`."""

    name = "top_p"
    paper = "Holtzman et al. 2019, The Curious Case of Neural Text Degeneration, arXiv:1904.09751"

    class Config(LogitsProcessor.Config):
        p: float = Field(0.95, gt=0.0, le=1.0)
        """The probability that is kept; 1 keeps all."""

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        if self.config.p == 1:
            return logits
        return _reaching(logits, logits, self.config.p)


class MinP(LogitsProcessor):
    """Keeps the tokens that are at least `p` times as likely as the likeliest: fewer, the surer the model is."""

    name = "min_p"
    paper = "Nguyen et al. 2024, Turning Up the Heat: Min-p Sampling, arXiv:2407.01082"

    class Config(LogitsProcessor.Config):
        p: float = Field(0.05, gt=0.0, le=1.0)
        """As a fraction of the largest probability; 1 leaves the likeliest alone."""

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        floor = logits.amax(dim=-1, keepdim=True) + math.log(self.config.p)  # (B, 1)
        return logits.masked_fill(logits < floor, NEVER)


class Typical(LogitsProcessor):
    """Keeps the tokens that are about as surprising as is to be expected, the most typical first.

    How typical a token is: how near its surprisal is to the entropy of the distribution. As many are kept as it takes
    to bring their probability to `p`.
    """

    name = "typical"
    paper = "Meister et al. 2022, Locally Typical Sampling, arXiv:2202.00666"

    class Config(LogitsProcessor.Config):
        p: float = Field(0.95, gt=0.0, le=1.0)
        """The probability that is kept; 1 keeps all."""

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        if self.config.p == 1:
            return logits
        log_probabilities = logits.log_softmax(dim=-1)
        entropy = torch.special.entr(log_probabilities.exp()).sum(dim=-1, keepdim=True)  # (B, 1), nats
        return _reaching(logits, -(log_probabilities + entropy).abs(), self.config.p)


def _reaching(logits: Tensor, scores: Tensor, p: float) -> Tensor:
    """Logits (B, V) of the best tokens by `scores`, up to and including the one that brings their probability to `p`.

    Of equal ones the lower id is the better.
    """
    normaliser = logits.logsumexp(dim=-1, keepdim=True)
    for n_best in _FIRST:
        if n_best >= logits.shape[-1]:
            break
        best, order = scores.topk(n_best, dim=-1)
        kept = _until((logits.gather(-1, order) - normaliser).exp(), p)
        edge = best.gather(-1, kept.sum(dim=-1, keepdim=True) - 1)  # (B, 1)
        if not kept[:, -1].any() and ((best == edge).sum(dim=-1) == 1).all():
            return _only(logits, order, kept)
    order = scores.argsort(dim=-1, descending=True, stable=True)
    return _only(logits, order, _until((logits.gather(-1, order) - normaliser).exp(), p))


def _until(probabilities: Tensor, p: float) -> Tensor:
    """Bool, as long as those before do not hold `p` already."""
    return probabilities.cumsum(dim=-1) - probabilities < p


def _only(logits: Tensor, order: Tensor, kept: Tensor) -> Tensor:
    """Logits of those tokens alone that `order` (B, N) names and `kept` (B, N) bool keeps."""
    values = logits.gather(-1, order).masked_fill(~kept, NEVER)
    return logits.new_full(logits.shape, NEVER).scatter(-1, order, values)

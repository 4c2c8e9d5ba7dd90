"""Logits processors that sharpen or truncate the distribution: temperature, top-k, top-p, min-p and typical."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from gptzoo.sampling.processors.processor import NEG_INF, LogitsProcessor
from gptzoo.sampling.sequence import TokenSequence

_MIN_TEMPERATURE = 1e-5  # lower ones are greedy, because the division could overflow
_MAX_TEMPERATURE = 1e30  # float32 ends at 3e38

# Sorting the whole vocabulary takes a large part of a small model's time, and a few top tokens are mostly enough.
_TOP_SIZES = (512, 8192)


class Temperature(LogitsProcessor):
    """Temperature: logits are divided by it. Below 1 the distribution is sharper, above 1 flatter, and 0 is greedy."""

    name = "temperature"
    paper = "Ackley et al. 1985, A Learning Algorithm for Boltzmann Machines, Cognitive Science 9"

    class Config(LogitsProcessor.Config):
        value: NonNegativeFloat = 1.0
        """Temperature by which the logits are divided. Values below 0.00001 count as 0, which is greedy decoding."""

    config: Config

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        if self.config.value < _MIN_TEMPERATURE:
            best = logits.argmax(dim=-1, keepdim=True)
            return logits.new_full(logits.shape, NEG_INF).scatter(-1, best, logits.gather(-1, best))
        return logits / min(self.config.value, _MAX_TEMPERATURE)


class TopK(LogitsProcessor):
    """Top-k sampling: only the `k` most likely tokens are kept. Ties go to the lower token id."""

    name = "top_k"
    paper = "Fan et al. 2018, Hierarchical Neural Story Generation, arXiv:1805.04833"

    class Config(LogitsProcessor.Config):
        k: PositiveInt = 50
        """Number of tokens to keep."""

    config: Config

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        if self.config.k >= logits.shape[-1]:
            return logits
        order = self._order(logits)[:, : self.config.k]
        return _keep_only(logits, order, torch.ones_like(order, dtype=torch.bool))

    def _order(self, logits: Tensor) -> Tensor:
        """Return at least `k` token ids (B, N) of each row, in the order in which they are kept."""
        if not logits.is_cuda:  # a GPU sorts in less time than the host waits to know if there is a tie
            values, order = logits.topk(self.config.k + 1, dim=-1)
            last_kept, first_dropped = values[:, -2], values[:, -1]
            if not ((last_kept == first_dropped) & (last_kept > NEG_INF)).any():
                return order  # topk does not specify the order of ties
        return logits.argsort(dim=-1, descending=True, stable=True)


class TopP(LogitsProcessor):
    """Nucleus sampling: keeps the most likely tokens until their total probability reaches `p`."""

    name = "top_p"
    paper = "Holtzman et al. 2019, The Curious Case of Neural Text Degeneration, arXiv:1904.09751"

    class Config(LogitsProcessor.Config):
        p: float = Field(default=0.95, gt=0.0, le=1.0)
        """Total probability to keep. 1 keeps all tokens."""

    config: Config

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        if self.config.p == 1:
            return logits
        return _keep_mass(logits, logits, self.config.p)


class MinP(LogitsProcessor):
    """Min-p sampling: only tokens with at least `p` times the highest probability are kept."""

    name = "min_p"
    paper = "Nguyen et al. 2024, Turning Up the Heat: Min-p Sampling, arXiv:2407.01082"

    class Config(LogitsProcessor.Config):
        p: float = Field(default=0.05, gt=0.0, le=1.0)
        """Minimum probability, as a fraction of the highest probability. 1 keeps only the most likely token."""

    config: Config

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        threshold = logits.amax(dim=-1, keepdim=True) + math.log(self.config.p)  # (B, 1)
        return logits.masked_fill(logits < threshold, NEG_INF)


class Typical(LogitsProcessor):
    """Locally typical sampling: keeps the tokens whose surprisal is closest to the entropy of the distribution.

    Tokens are kept, the most typical first, until their total probability reaches `p`.
    """

    name = "typical"
    paper = "Meister et al. 2022, Locally Typical Sampling, arXiv:2202.00666"

    class Config(LogitsProcessor.Config):
        p: float = Field(default=0.95, gt=0.0, le=1.0)
        """Total probability to keep. 1 keeps all tokens."""

    config: Config

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        if self.config.p == 1:
            return logits
        log_probabilities = logits.log_softmax(dim=-1)
        entropy = torch.special.entr(log_probabilities.exp()).sum(dim=-1, keepdim=True)  # (B, 1), nats
        return _keep_mass(logits, -(log_probabilities + entropy).abs(), self.config.p)


def _keep_mass(logits: Tensor, scores: Tensor, p: float) -> Tensor:
    """Keep the logits (B, V) of the best tokens by `scores` until their total probability reaches `p`.

    Ties go to the lower token id.
    """
    log_normaliser = logits.logsumexp(dim=-1, keepdim=True)
    for n_best in () if logits.is_cuda else _TOP_SIZES:  # a GPU sorts in less time than the host waits for `any`
        if n_best >= logits.shape[-1]:
            break
        best, order = scores.topk(n_best, dim=-1)
        kept = _until_mass((logits.gather(-1, order) - log_normaliser).exp(), p)
        last_kept = best.gather(-1, kept.sum(dim=-1, keepdim=True) - 1)  # (B, 1)
        has_tie = ((best == last_kept).sum(dim=-1) != 1).any()
        if not kept[:, -1].any() and not has_tie:
            return _keep_only(logits, order, kept)
    order = scores.argsort(dim=-1, descending=True, stable=True)
    return _keep_only(logits, order, _until_mass((logits.gather(-1, order) - log_normaliser).exp(), p))


def _until_mass(probabilities: Tensor, p: float) -> Tensor:
    """Return a bool mask that is True while the probabilities before sum to less than `p`, and for the first one."""
    kept = probabilities.cumsum(dim=-1) - probabilities < p
    kept[:, 0] = True  # float32 rounds the smallest values of `p` to 0
    return kept


def _keep_only(logits: Tensor, order: Tensor, kept: Tensor) -> Tensor:
    """Exclude all tokens except those in `order` (B, N) where `kept` (B, N) is True."""
    values = logits.gather(-1, order).masked_fill(~kept, NEG_INF)
    return logits.new_full(logits.shape, NEG_INF).scatter(-1, order, values)

"""Processors that look at the tokens before: what was said becomes less likely to be said again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt, Strict
from torch import Tensor

from gptzoo.component import Config
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.sampling.processors.processor import NEVER, LogitsProcessor
from gptzoo.sampling.processors.vocabulary import check_ids
from gptzoo.sampling.sequence import TokenSequence

Nats = Annotated[float, Field(ge=-1e4, le=1e4)]  # e^-10000 is no probability any more, and no sum of these overflows


class RepetitionPenalty(LogitsProcessor):
    """Makes every token of the prompt and of the text so far less likely: its logit is divided by `value` if it is
    positive, else multiplied."""

    name = "repetition_penalty"
    paper = "Keskar et al. 2019, CTRL: A Conditional Transformer Language Model, arXiv:1909.05858"

    class Config(LogitsProcessor.Config):
        value: float = Field(1.2, ge=1e-4, le=1e4)
        """1 changes nothing; below 1 repetition is encouraged."""

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        at, _ = _counted((row.tokens for row in rows), logits)
        seen = logits[at]
        return logits.index_put(at, torch.where(seen > 0, seen / self.config.value, seen * self.config.value))


class PresencePenalty(LogitsProcessor):
    """Subtracts `value` from the logit of every token that was written, once; the prompt does not count."""

    name = "presence_penalty"
    paper = "OpenAI API reference, create completion, presence_penalty"

    class Config(LogitsProcessor.Config):
        value: Nats = 0.5
        """In nats; OpenAI takes -2 to 2. Below 0 repetition is encouraged."""

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        at, _ = _counted((row.new for row in rows), logits)
        return logits.index_put(at, logits[at] - self.config.value)


class FrequencyPenalty(LogitsProcessor):
    """Subtracts `value` from the logit of a token for every time that it was written; the prompt does not count."""

    name = "frequency_penalty"
    paper = "OpenAI API reference, create completion, frequency_penalty"

    class Config(LogitsProcessor.Config):
        value: Nats = 0.5
        """In nats; OpenAI takes -2 to 2. Below 0 repetition is encouraged."""

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        at, counts = _counted((row.new for row in rows), logits)
        return logits.index_put(at, logits[at] - self.config.value * counts)


class NoRepeatNgram(LogitsProcessor):
    """Excludes every token that would complete `size` tokens which stand in the prompt or the text so far already.

    A row in which it would exclude all that is left stays as it is.
    """

    name = "no_repeat_ngram"
    paper = "Paulus et al. 2017, A Deep Reinforced Model for Abstractive Summarization, arXiv:1705.04304"

    class Config(LogitsProcessor.Config):
        size: PositiveInt = 3
        """Of the n-grams that occur once only; 1 lets no token occur twice."""

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        left = logits.clone()
        for index, row in enumerate(rows):
            left[index, torch.from_numpy(self._completing(np.asarray(row.tokens))).to(logits.device)] = NEVER
        return torch.where(left.amax(dim=-1, keepdim=True) > NEVER, left, logits)

    def _completing(self, tokens: np.ndarray) -> np.ndarray:
        """What stood after every earlier occurrence of the last `size - 1` tokens."""
        n_before = self.config.size - 1
        n_grams = len(tokens) - n_before
        if n_grams < 1:
            return np.empty(0, dtype=np.int64)
        same = np.ones(n_grams, dtype=np.bool_)
        for offset in range(n_before):
            same &= tokens[offset : offset + n_grams] == tokens[n_grams + offset]
        return tokens[n_before:][same]


class LogitBias(LogitsProcessor):
    """Adds a number to the logits of certain tokens."""

    name = "logit_bias"
    paper = "OpenAI API reference, create completion, logit_bias"

    class Config(LogitsProcessor.Config):
        biases: dict[Annotated[NonNegativeInt, Strict(False)], Nats] = Field(min_length=1, examples=[{"10": -2.0}])
        """What is added, in nats, by token id. It does not make impossible; `banned_tokens` does."""

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        self.tokens = torch.tensor(list(self.config.biases))
        self.biases = torch.tensor(list(self.config.biases.values()), dtype=torch.float32)

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        check_ids(self.config.biases, logits.shape[-1], self.name)
        biases = self.biases.to(logits.device).expand(len(logits), -1)
        return logits.index_add(-1, self.tokens.to(logits.device), biases)


def _counted(texts: Iterable[Sequence[int]], logits: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Where in the logits the tokens of each row stand, each token once, and how often it occurs in the row."""
    counted = [np.unique(np.asarray(text, dtype=np.int64), return_counts=True) for text in texts]
    rows = np.repeat(np.arange(len(counted)), [len(tokens) for tokens, _ in counted])
    tokens = np.concatenate([tokens for tokens, _ in counted])
    counts = np.concatenate([counts for _, counts in counted]).astype(np.float32)
    at_row, at_token, n_times = (torch.from_numpy(array).to(logits.device) for array in (rows, tokens, counts))
    return (at_row, at_token), n_times

"""Logits processors that depend on earlier tokens or on token ids: repetition penalties, n-gram blocking and biases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt, Strict
from torch import Tensor

from gptzoo.sampling.processors.processor import NEG_INF, LogitsProcessor
from gptzoo.sampling.processors.vocabulary import check_token_ids
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.utils.transfer import tensor_on

Nats = Annotated[float, Field(ge=-1e4, le=1e4)]  # exp(-1e4) is 0 already, and sums of these do not overflow


class RepetitionPenalty(LogitsProcessor):
    """Repetition penalty for every token of the prompt and of the text so far.

    A positive logit is divided by `value`, a negative one is multiplied by it.
    """

    name = "repetition_penalty"
    paper = "Keskar et al. 2019, CTRL: A Conditional Transformer Language Model, arXiv:1909.05858"

    class Config(LogitsProcessor.Config):
        value: float = Field(default=1.2, ge=1e-4, le=1e4)
        """Penalty factor. 1 changes nothing, and values below 1 encourage repetition."""

    config: Config

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        index, _ = _count_tokens((sequence.tokens for sequence in sequences), logits)
        old = logits[index]
        return logits.index_put(index, torch.where(old > 0, old / self.config.value, old * self.config.value))


class PresencePenalty(LogitsProcessor):
    """Presence penalty: `value` is subtracted once from the logit of each token generated so far.

    Tokens of the prompt do not count.
    """

    name = "presence_penalty"
    paper = "OpenAI API reference, create completion, presence_penalty"

    class Config(LogitsProcessor.Config):
        value: Nats = 0.5
        """Penalty in nats (OpenAI's API allows -2 to 2). Negative values encourage repetition."""

    config: Config

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        index, _ = _count_tokens((sequence.new for sequence in sequences), logits)
        return logits.index_put(index, logits[index] - self.config.value)


class FrequencyPenalty(LogitsProcessor):
    """Frequency penalty: `value` is subtracted from a token's logit for each time it was generated.

    Tokens of the prompt do not count.
    """

    name = "frequency_penalty"
    paper = "OpenAI API reference, create completion, frequency_penalty"

    class Config(LogitsProcessor.Config):
        value: Nats = 0.5
        """Penalty in nats per occurrence (OpenAI's API allows -2 to 2). Negative values encourage repetition."""

    config: Config

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        index, counts = _count_tokens((sequence.new for sequence in sequences), logits)
        return logits.index_put(index, logits[index] - self.config.value * counts)


class NoRepeatNgram(LogitsProcessor):
    """Ban on every token that would repeat an n-gram of the prompt or of the text so far.

    A row in which no token would be left stays unchanged.
    """

    name = "no_repeat_ngram"
    paper = "Paulus et al. 2017, A Deep Reinforced Model for Abstractive Summarization, arXiv:1705.04304"

    class Config(LogitsProcessor.Config):
        size: PositiveInt = 3
        """Length of the n-grams that must not repeat, in tokens. With 1, no token occurs twice."""

    config: Config

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        masked = logits.clone()
        for row, sequence in enumerate(sequences):
            repeating = self._repeating_tokens(np.asarray(sequence.tokens))
            masked[row, tensor_on(logits.device, repeating)] = NEG_INF
        return torch.where(masked.amax(dim=-1, keepdim=True) > NEG_INF, masked, logits)

    def _repeating_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """Return the tokens that followed earlier occurrences of the last `size - 1` tokens."""
        n_context = self.config.size - 1
        n_grams = len(tokens) - n_context
        if n_grams < 1:
            return np.empty(0, dtype=np.int64)
        matches = np.ones(n_grams, dtype=np.bool_)
        for offset in range(n_context):
            matches &= tokens[offset : offset + n_grams] == tokens[n_grams + offset]
        return tokens[n_context:][matches]


class LogitBias(LogitsProcessor):
    """Logit bias: a constant is added to the logits of given tokens."""

    name = "logit_bias"
    paper = "OpenAI API reference, create completion, logit_bias"

    class Config(LogitsProcessor.Config):
        biases: dict[Annotated[NonNegativeInt, Strict(False)], Nats] = Field(min_length=1, examples=[{"10": -2.0}])
        """Value added to the logit, in nats, by token id. Use `banned_tokens` to exclude a token."""

    config: Config

    def check_vocab_size(self, vocab_size: int) -> None:
        check_token_ids(self.config.biases, vocab_size, self.name)

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        self.check_vocab_size(logits.shape[-1])
        tokens = tensor_on(logits.device, list(self.config.biases))
        biases = tensor_on(logits.device, list(self.config.biases.values()), torch.float32).expand(len(logits), -1)
        return logits.index_add(-1, tokens, biases)


def _count_tokens(rows: Iterable[Sequence[int]], logits: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return an index into the logits (B, V) for the distinct tokens of each row, and the count of each in its row."""
    counted = [np.unique(np.asarray(row, dtype=np.int64), return_counts=True) for row in rows]
    row_indices = np.repeat(np.arange(len(counted)), [len(tokens) for tokens, _ in counted])
    token_ids = np.concatenate([tokens for tokens, _ in counted])
    counts = np.concatenate([counts for _, counts in counted]).astype(np.float32)
    row_tensor, token_tensor, count_tensor = (
        tensor_on(logits.device, array) for array in (row_indices, token_ids, counts)
    )
    return (row_tensor, token_tensor), count_tensor

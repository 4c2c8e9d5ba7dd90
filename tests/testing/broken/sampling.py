"""Broken logits processors, each with one fault that somebody has made before."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

import gptzoo


class ExcludesAllTokens(gptzoo.LogitsProcessor):
    """Keeps logits above a threshold, which may be none."""

    name = "excludes_all_tokens"

    def __call__(self, logits: Tensor, sequences: Sequence[gptzoo.TokenSequence]) -> Tensor:
        return logits.masked_fill(logits < 2, float("-inf"))


class ScalesByBatch(gptzoo.LogitsProcessor):
    """Divides by the largest logit of the whole batch."""

    name = "scales_by_batch"

    def __call__(self, logits: Tensor, sequences: Sequence[gptzoo.TokenSequence]) -> Tensor:
        return logits / logits.amax().clamp(min=1)


class WritesToLogits(gptzoo.LogitsProcessor):
    """Subtracts its penalty from the logits in place."""

    name = "writes_to_logits"

    def __call__(self, logits: Tensor, sequences: Sequence[gptzoo.TokenSequence]) -> Tensor:
        for index, sequence in enumerate(sequences):
            logits[index, sequence.tokens[-1]] -= 1
        return logits


class DependsOnEarlierCalls(gptzoo.LogitsProcessor):
    """Divides the logits by the number of calls."""

    name = "depends_on_earlier_calls"

    def __init__(self, config: gptzoo.Config, tokenizer: gptzoo.Tokenizer | None = None):
        super().__init__(config, tokenizer)
        self.n_calls = 0

    def __call__(self, logits: Tensor, sequences: Sequence[gptzoo.TokenSequence]) -> Tensor:
        self.n_calls += 1
        return logits / self.n_calls

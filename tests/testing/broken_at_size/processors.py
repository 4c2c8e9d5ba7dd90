"""Logits processors that are wrong for long texts, large batches, large vocabularies or large logits."""

from __future__ import annotations

import math

import torch

from gptzoo.sampling.processors.penalties import FrequencyPenalty, NoRepeatNgram, PresencePenalty
from gptzoo.sampling.processors.truncation import MinP, Temperature, TopK

from .table import caught_by


@caught_by("rows")
class EightHistories(FrequencyPenalty):
    """Frequency penalty with a table of eight histories. Wrong: row 8 has the history of row 0."""

    name = "eight_histories"

    def __call__(self, logits, sequences):
        return super().__call__(logits, [sequences[row % 8] for row in range(len(sequences))])


@caught_by("determinism")
class IncrementalCounts(PresencePenalty):
    """Presence penalty. Wrong: beyond 64 new tokens it goes on from the counts of the last call, of any text."""

    name = "incremental_counts"

    def __init__(self, config, tokenizer=None):
        super().__init__(config, tokenizer)
        self.seen = {}

    def __call__(self, logits, sequences):
        logits = super().__call__(logits, sequences)
        for row, sequence in enumerate(sequences):
            if sequence.n_new > 64:
                seen = self.seen.setdefault(row, set(sequence.new))
                ids = torch.tensor(sorted(seen - set(sequence.new)), dtype=torch.int64)
                logits[row, ids] -= self.config.value
                seen |= set(sequence.new)
        return logits


@caught_by("inputs")
class InPlaceMask(MinP):
    """Min-p sampling. Wrong: for more than 128 tokens it masks the logits that it was given."""

    name = "in_place_mask"

    def __call__(self, logits, sequences):
        processed = super().__call__(logits, sequences)
        return processed if logits.shape[1] <= 128 else logits.copy_(processed)


@caught_by("processing")
class HalfThreshold(MinP):
    """Min-p sampling. Wrong: for more than 128 tokens the threshold has half precision, which ends at 65,504."""

    name = "half_threshold"

    def __call__(self, logits, sequences):
        if logits.shape[1] <= 128:
            return super().__call__(logits, sequences)
        threshold = logits.half().amax(-1, keepdim=True) + math.log(self.config.p)
        return logits.masked_fill(logits < threshold, float("-inf"))


@caught_by("processing")
class FlatCut(MinP):
    """Sampling of tokens above a share of the probability. Wrong: in a large flat vocabulary none is above."""

    name = "flat_cut"

    def __call__(self, logits, sequences):
        threshold = min(self.config.p, 0.05) / 4
        return logits.masked_fill(logits.softmax(-1) < threshold, float("-inf"))


@caught_by("rows")
class BatchTopK(TopK):
    """Top-k sampling. Wrong: beyond eight rows, the threshold is the smallest of the batch."""

    name = "batch_top_k"

    def __call__(self, logits, sequences):
        if len(logits) <= 8 or self.config.k >= logits.shape[-1]:
            return super().__call__(logits, sequences)
        threshold = logits.topk(self.config.k, dim=-1).values[:, -1].amin()
        return logits.masked_fill(logits < threshold, float("-inf"))


@caught_by("processing")
class AllRepeated(NoRepeatNgram):
    """Ban on repeated n-grams. Wrong: where a long text has used up all tokens, none is left."""

    name = "all_repeated"

    def __call__(self, logits, sequences):
        masked = logits.clone()
        for row, sequence in enumerate(sequences):
            seen = set(sequence.tokens) if len(sequence.tokens) > 64 else set()
            if len(seen) > logits.shape[1] // 2:
                masked[row] = float("-inf")
        return super().__call__(masked, sequences)


@caught_by("rows")
class SharedHeat(Temperature):
    """Temperature that follows the length. Wrong: beyond 32 new tokens, all rows have the temperature of the first."""

    name = "shared_heat"

    def __call__(self, logits, sequences):
        if sequences[0].n_new > 32:
            logits = logits * (1 + sequences[0].n_new / 64)
        return super().__call__(logits, sequences)

"""`EngineSequence`: one sample of a request while the engine generates it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptzoo.errors import InputError
from gptzoo.sampling.engine.logits import process_logits, process_logits_unchecked
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.request import Request
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.utils.seeds import derive_seed
from gptzoo.utils.transfer import tensor_on


@dataclass
class EngineSequence(TokenSequence):
    """A `TokenSequence` with the fields that the engine needs. Logits processors use those of the base class."""

    request: Request
    request_id: Hashable
    sample: int
    stopping: StoppingCriteria
    generator: torch.Generator
    n_draft_cached: int = 0
    """Number of tokens, including the prompt, that the draft model has in its cache."""
    finished: bool = False

    @classmethod
    def start(cls, request: Request, request_id: Hashable, sample: int, stopping: StoppingCriteria) -> EngineSequence:
        """Return the sequence of sample number `sample` before its first token."""
        seed = derive_seed(request.spec.seed, "sample", request.first_sample + sample)
        generator = torch.Generator().manual_seed(seed)
        prompt_ids = list(request.prompt_ids)
        return cls(prompt_ids, len(prompt_ids), request, request_id, sample, stopping, generator)

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The tokens of the prompt."""
        return tuple(self.tokens[: self.prompt_length])

    @property
    def n_remaining(self) -> int:
        """The number of tokens that may still be generated."""
        return self.request.spec.max_new_tokens - self.n_new

    def append(self, token: int, log_probability: float, top_logprobs: dict[int, float]) -> TokenEvent:
        """Append a token, check the stopping criteria and return the event to report."""
        self.tokens.append(token)
        try:
            finish_reason = self.stopping.finish_reason(self)
        except InputError as error:
            return self.fail(error)
        self.finished = finish_reason is not None
        return TokenEvent(token, log_probability, finish_reason, top_logprobs, self.request_id, self.sample)

    def finish_without_token(self) -> TokenEvent | None:
        """Return the last event of a sequence that gets no token, or None if it gets one."""
        try:
            finish_reason = self.stopping.finish_reason(self)
        except InputError as error:
            return self.fail(error)
        if finish_reason is None:
            return None
        self.finished = True
        return TokenEvent(None, finish_reason=finish_reason, request_id=self.request_id, sample=self.sample)

    def fail(self, error: Exception) -> TokenEvent:
        """Finish the sequence and return the event that reports the error."""
        self.finished = True
        return TokenEvent(None, request_id=self.request_id, sample=self.sample, error=error)


def process_sequence_logits(
    sequences: Sequence[EngineSequence], logits: Tensor, model_name: str = "the model"
) -> tuple[Tensor, dict[int, InputError]]:
    """Apply `process_logits` to each row of logits (B, V) with the processors of its sequence.

    Sequences with the same processors are processed together. Also returns the errors, by row.
    """
    groups = _group_by_processing(sequences)
    if len(groups) == 1:
        return process_logits(sequences[0].stopping, logits, sequences, model_name)
    errors: dict[int, InputError] = {}
    processed = torch.empty_like(logits)
    for rows in groups:
        group, index = [sequences[row] for row in rows], tensor_on(logits.device, rows)
        processed[index], group_errors = process_logits(group[0].stopping, logits[index], group, model_name)
        errors |= {rows[number]: error for number, error in group_errors.items()}
    return processed, errors


def process_sequence_logits_unchecked(sequences: Sequence[EngineSequence], logits: Tensor) -> tuple[Tensor, Tensor]:
    """Apply `process_logits_unchecked` to each row of logits (B, V) with the processors of its sequence."""
    groups = _group_by_processing(sequences)
    if len(groups) == 1:
        return process_logits_unchecked(sequences[0].stopping, logits, sequences)
    processed, is_bad = torch.empty_like(logits), logits.new_empty(len(logits), dtype=torch.bool)
    for rows in groups:
        group, index = [sequences[row] for row in rows], tensor_on(logits.device, rows)
        processed[index], is_bad[index] = process_logits_unchecked(group[0].stopping, logits[index], group)
    return processed, is_bad


def _group_by_processing(sequences: Sequence[EngineSequence]) -> list[list[int]]:
    """Return the rows of sequences whose logits are processed together, group by group."""
    groups: dict[Hashable, list[int]] = {}
    for row, sequence in enumerate(sequences):
        groups.setdefault(sequence.stopping.processing_key, []).append(row)
    return list(groups.values())

"""The next token of each sequence of a batch, from the logits of the model to the event to report."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gptzoo.errors import InputError
from gptzoo.sampling.engine.engine_sequence import (
    EngineSequence,
    process_sequence_logits,
    process_sequence_logits_unchecked,
)
from gptzoo.sampling.engine.sampler import (
    draw_uniforms,
    log_probabilities,
    sample_tokens,
    top_logprobs,
    top_values,
)
from gptzoo.sampling.engine.speculative import Proposal, accept_or_resample
from gptzoo.sampling.events import TokenEvent
from gptzoo.utils.transfer import on_host


def sample_next_tokens(
    sequences: Sequence[EngineSequence], logits: Tensor, proposals: Sequence[Proposal | None] = ()
) -> list[TokenEvent]:
    """Sample the next token of each sequence from logits (B, V), or verify its draft token."""
    logits = logits.float()
    uniforms = None
    if not any(proposals):
        uniforms = draw_uniforms([sequence.generator for sequence in sequences])
        events = _sample_unchecked(sequences, logits, uniforms)
        if events is not None:
            return events
    return _sample_checked(sequences, logits, uniforms, proposals)


def _sample_unchecked(sequences: Sequence[EngineSequence], logits: Tensor, uniforms: Tensor) -> list[TokenEvent] | None:
    """Sample the next tokens and return their events, or None if a sequence has an error.

    The host waits for a GPU once, for all numbers together.
    """
    try:
        processed, is_bad = process_sequence_logits_unchecked(sequences, logits)
    except InputError:
        return None
    tokens = sample_tokens(processed, uniforms)
    results = [is_bad, tokens, log_probabilities(logits, tokens)]
    if n_top := max(sequence.request.n_top_logprobs for sequence in sequences):
        results += top_values(logits, n_top, sequences[0].stopping.vocab_size)
    are_bad, host_tokens, scores, *tops = on_host(*results)
    if are_bad.any():
        return None
    top_scores, top_ids = (top.tolist() for top in tops) if tops else ([], [])
    events = []
    for row, sequence in enumerate(sequences):
        n = sequence.request.n_top_logprobs
        top = dict(zip(map(int, top_ids[row][:n]), top_scores[row][:n], strict=True)) if n else {}
        events.append(sequence.append(int(host_tokens[row]), scores[row].item(), top))
    return events


def _sample_checked(
    sequences: Sequence[EngineSequence],
    logits: Tensor,
    uniforms: Tensor | None,
    proposals: Sequence[Proposal | None],
) -> list[TokenEvent]:
    """Sample the next tokens, or verify draft tokens if there are no `uniforms`. An error is that of its sequence."""
    processed, errors = process_sequence_logits(sequences, logits)
    events = [sequences[row].fail(error) for row, error in errors.items()]
    if errors:
        rows = [row for row in range(len(sequences)) if row not in errors]
        if not rows:
            return events
        sequences, logits, processed = [sequences[row] for row in rows], logits[rows], processed[rows]
        proposals = [proposals[row] for row in rows] if proposals else ()
        uniforms = None if uniforms is None else uniforms[rows]
    if uniforms is None:
        generators = [sequence.generator for sequence in sequences]
        tokens = torch.tensor(accept_or_resample(processed, proposals, generators), device=logits.device)
    else:
        tokens = sample_tokens(processed, uniforms)
    scores = log_probabilities(logits, tokens).tolist()
    for row, (sequence, token, score) in enumerate(zip(sequences, tokens.tolist(), scores, strict=True)):
        n_top = sequence.request.n_top_logprobs
        top = top_logprobs(logits[row], n_top, sequence.stopping.vocab_size) if n_top else {}
        events.append(sequence.append(token, score, top))
    return events

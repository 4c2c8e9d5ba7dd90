"""Speculative decoding: a draft model proposes tokens, and the target model verifies several of them in one pass.

The generated text has exactly the distribution of the target model (Leviathan et al. 2022, Fast Inference from
Transformers via Speculative Decoding, arXiv:2211.17192; Chen et al. 2023, arXiv:2302.01318).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gptzoo.errors import InputError, LogitsError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.engine_sequence import EngineSequence, process_sequence_logits
from gptzoo.sampling.engine.kv_cache_manager import KVCacheManager
from gptzoo.sampling.engine.sampler import draw_uniforms, probabilities, sample_from_weights
from gptzoo.sampling.request import check_prompt
from gptzoo.sampling.spec import SamplingSpec


class Proposal(NamedTuple):
    """A draft token, and the distribution that it was sampled from."""

    token: int
    probabilities: Tensor  # (V,) float64


class DraftModel:
    """A small model that proposes tokens for an engine. It has a slot for each of the engine's slots.

    Raises InputError if the models have different vocabularies, or if an attention does not support the padding that
    slots of different lengths need.
    """

    def __init__(self, model: Architecture, target: Architecture, n_slots: int, max_length: int):
        if target.spec.vocab_size != model.spec.vocab_size:
            raise InputError(
                f"the draft model has {model.spec.vocab_size} token ids and the target model has "
                f"{target.spec.vocab_size}. Choose a draft model with the same tokenizer."
            )
        for architecture in (target, model) if n_slots > 1 else ():
            for attention in architecture.spec.per_layer("attention"):
                if "padding" not in attention.component.supports:
                    raise InputError(
                        f"attention {attention.type!r} does not support padding. Speculation needs it in a batch, "
                        "because sequences accept different numbers of draft tokens. "
                        "Use one slot, or no draft model."
                    )
        self.model = model
        self.cache = KVCacheManager(model, n_slots, max_length)

    def assign_slot(self, slot: int, sequence: EngineSequence) -> None:
        """Put the prefilled prompt of a sequence into a slot."""
        self.cache.assign_slot(slot, sequence.prompt_ids)
        sequence.n_draft_cached = sequence.prompt_length

    def propose(self, sequences: Sequence[EngineSequence]) -> tuple[list[list[Proposal]], dict[int, LogitsError]]:
        """Sample draft tokens for each sequence with its own generator, at most as many as its request asks for.

        One token of the remaining length is left to the target model, which always adds one. Also returns the errors of
        sequences for which the draft model gives logits that are not finite, by slot.
        """
        draft_errors: dict[int, LogitsError] = {}
        proposals: list[list[Proposal]] = [[] for _ in sequences]
        limits = [min(s.request.n_draft_tokens, s.n_remaining - 1) for s in sequences]
        lengths = [len(sequence.tokens) for sequence in sequences]
        active = [slot for slot, limit in enumerate(limits) if limit > 0]
        if not active:
            return proposals, draft_errors
        self.cache.snapshot(len(sequences))
        while active:
            uncached: list[list[int]] = [[] for _ in sequences]
            for slot in active:
                sequence = sequences[slot]
                uncached[slot] = sequence.tokens[sequence.n_draft_cached :]
                sequence.n_draft_cached = len(sequence.tokens)
            logits = self.cache.decode(uncached)[active, -1].float()
            processed, errors = process_sequence_logits([sequences[slot] for slot in active], logits, "the draft model")
            draft_errors |= {active[row]: error for row, error in errors.items() if isinstance(error, LogitsError)}
            active = [slot for row, slot in enumerate(active) if row not in errors]
            if not active:  # errors of processors: the target model raises them again, if the text gets that far
                break
            if errors:
                processed = processed[[row for row in range(len(processed)) if row not in errors]]
            distributions = probabilities(processed)
            uniforms = draw_uniforms([sequences[slot].generator for slot in active])
            tokens = sample_from_weights(distributions, uniforms)
            still_active = []
            for row, (slot, token) in enumerate(zip(active, tokens, strict=True)):
                sequence = sequences[slot]
                sequence.tokens.append(token)
                proposals[slot].append(Proposal(token, distributions[row]))
                if len(proposals[slot]) < limits[slot] and _continues(sequence):
                    still_active.append(slot)
            active = still_active
        for sequence, length in zip(sequences, lengths, strict=True):
            del sequence.tokens[length:]
        return proposals, draft_errors

    def rollback_rejected(self, sequences: Sequence[EngineSequence]) -> None:
        """Roll the cache back to the accepted tokens, after the sequences received their new tokens."""
        kept = [min(s.n_draft_cached, len(s.tokens) - 1) for s in sequences]  # neither model has read the last token
        self.cache.rollback([s.n_draft_cached - n for s, n in zip(sequences, kept, strict=True)])
        for sequence, n in zip(sequences, kept, strict=True):
            sequence.n_draft_cached = n


def _continues(sequence: EngineSequence) -> bool:
    try:
        return sequence.stopping.finish_reason(sequence) is None
    except InputError:  # raised again, if the target model accepts the token
        return False


def check_draft_prompt(draft: Architecture, prompt_ids: Sequence[int], spec: SamplingSpec) -> None:
    """Raise InputError unless the draft model can read the prompt and all new tokens."""
    try:
        check_prompt(draft, prompt_ids, spec)
    except InputError as error:
        raise InputError(f"the draft model cannot be used: {error}") from None


def accept_or_resample(
    logits: Tensor, proposals: Sequence[Proposal | None], generators: Sequence[torch.Generator]
) -> list[int]:
    """Return one token per row, distributed as the target model's processed logits (B, V) say.

    With the target distribution p and the draft distribution q, a proposed token x is accepted with probability
    min(1, p(x) / q(x)). A rejected one is replaced by a sample from max(0, p - q). A row without a proposal is sampled
    from p.
    """
    tokens = []
    uniforms = draw_uniforms(generators)
    for p, proposal, uniform, generator in zip(probabilities(logits), proposals, uniforms, generators, strict=True):
        if proposal is None:
            tokens += sample_from_weights(p[None], uniform[None])
            continue
        token, q = proposal
        residual = (p - q).clamp(min=0.0)
        if uniform * q[token] < p[token] or not residual.any():
            tokens.append(token)
        else:
            tokens += sample_from_weights(residual[None], draw_uniforms([generator]))
    return tokens

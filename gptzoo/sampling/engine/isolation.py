"""Isolation of sequences whose computation fails: a failed prefill or decode step is repeated for each one alone.

After an exception in a decode step, the contents of the KV cache are unknown, so the states are computed again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gptzoo.sampling.engine.engine_sequence import EngineSequence
from gptzoo.sampling.engine.kv_cache_manager import KVCacheManager, Prompt
from gptzoo.sampling.engine.speculative import DraftModel


@dataclass(frozen=True)
class SequenceSnapshot:
    """The fields of a sequence that a decode step changes, before the step."""

    sequence: EngineSequence
    n_tokens: int
    n_draft_cached: int
    generator_state: Tensor

    @classmethod
    def take(cls, sequence: EngineSequence) -> SequenceSnapshot:
        """Return a snapshot of a running sequence."""
        return cls(sequence, len(sequence.tokens), sequence.n_draft_cached, sequence.generator.get_state())

    def restore(self) -> None:
        """Undo the decode step in the sequence, so that the next one samples the same tokens."""
        sequence = self.sequence
        del sequence.tokens[self.n_tokens :]
        sequence.n_draft_cached = self.n_draft_cached
        sequence.generator.set_state(self.generator_state)
        sequence.finished = False


def recompute_states(sequence: EngineSequence, cache: KVCacheManager, draft: DraftModel | None) -> None:
    """Compute the states of a running sequence in slot 0 of new caches, by the forward passes that it has had."""
    _decode_again(cache, sequence.prompt_ids, sequence.new[:-1])  # the last token is in no cache yet
    if draft is not None and sequence.request.n_draft_tokens:
        _decode_again(
            draft.cache, sequence.prompt_ids, sequence.tokens[sequence.prompt_length : sequence.n_draft_cached]
        )


def _decode_again(cache: KVCacheManager, prompt_ids: Prompt, new: Sequence[int]) -> None:
    cache.prefill([prompt_ids])
    cache.assign_slot(0, prompt_ids)
    cache.keep_prefilled(())
    for token in new:
        cache.decode([[token]])


def prefill_or_collect_errors(
    sequences: Sequence[EngineSequence], cache: KVCacheManager, draft: DraftModel | None
) -> dict[Prompt, Exception]:
    """Prefill the prompts of sequences, which have one length. Return the errors by prompt.

    A prompt is prefilled into states of its own, so an error does not affect the sequences in slots.
    """
    prompts = {sequence.prompt_ids for sequence in sequences}
    draft_prompts = {sequence.prompt_ids for sequence in sequences if sequence.request.n_draft_tokens}

    def prefill_model_and_draft(subset: set[Prompt]) -> None:
        cache.prefill(subset)
        if draft is not None:
            draft.cache.prefill(subset & draft_prompts)

    with contextlib.suppress(Exception):  # raised again below, for the prompt that causes it
        prefill_model_and_draft(prompts)
        return {}
    errors: dict[Prompt, Exception] = {}
    for prompt in sorted(prompts):
        try:
            prefill_model_and_draft({prompt})
        except Exception as error:
            errors[prompt] = error
    return errors

"""The decoding engine: continuous batching of many sequences through one model.

A step of the engine decodes one token for every running sequence, then prefills waiting prompts into free slots.
"""

from __future__ import annotations

import itertools
import json
import logging
import traceback
from collections import deque
from collections.abc import Hashable, Sequence
from weakref import WeakValueDictionary

import torch

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError, LogitsError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.engine_sequence import EngineSequence
from gptzoo.sampling.engine.isolation import SequenceSnapshot, prefill_or_collect_errors, recompute_states
from gptzoo.sampling.engine.kv_cache_manager import KVCacheManager
from gptzoo.sampling.engine.next_tokens import sample_next_tokens
from gptzoo.sampling.engine.speculative import DraftModel, Proposal, check_draft_prompt
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.request import Request, check_prompt
from gptzoo.sampling.spec import SamplingSpec

_log = logging.getLogger(__name__)


class Engine:
    """Continuous batching over `n_slots` slots of up to `max_length` tokens each, prompt included.

    Call `submit` at any time, and `step` while the engine is `busy`. The KV cache is allocated in the constructor. A
    prompt is prefilled once for all of its samples. Prompts are prefilled without padding, and every slot has its own
    position. The engine sets the model to eval mode. It is not thread-safe.

    max_length: by default the model's maximum length, or its context length if there is no maximum.
    draft: a smaller model with the same vocabulary. It proposes tokens for requests with `n_draft_tokens` > 0
    (speculative decoding). Raises InputError if it does not fit the model.
    """

    def __init__(
        self,
        model: Architecture,
        tokenizer: Tokenizer | None = None,
        *,
        n_slots: int = 8,
        max_length: int | None = None,
        draft: Architecture | None = None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.n_slots = n_slots
        self.max_length = max_length or model.max_length or model.spec.context_length
        self._draft_model = draft
        self._ids = itertools.count()
        self._stopping: StoppingCriteria | None = None  # of the last request
        self._stopping_by_processors: WeakValueDictionary[str, StoppingCriteria] = WeakValueDictionary()
        self._waiting: deque[EngineSequence] = deque()
        self._running: list[EngineSequence] = []  # by slot
        self._allocate()

    def _new_caches(self, n_slots: int) -> tuple[KVCacheManager, DraftModel | None]:
        draft = None
        if self._draft_model is not None:
            draft = DraftModel(self._draft_model, self.model, n_slots, self.max_length)
        return KVCacheManager(self.model, n_slots, self.max_length), draft

    def _allocate(self) -> None:
        self._cache, self._draft = self._new_caches(self.n_slots)
        self._caches = [self._cache] if self._draft is None else [self._cache, self._draft.cache]

    def _reallocate(self) -> None:
        self._draft = None  # frees the memory before it is allocated again
        self._caches = []
        vars(self).pop("_cache", None)  # it is missing after a reallocation that failed
        self._allocate()

    def reset(self) -> None:
        """Drop all sequences and allocate a new KV cache.

        Call it after `step` raised an exception: the contents of the cache are unknown then.
        """
        self.drop_all()
        self._reallocate()

    def drop_all(self) -> None:
        """Drop all sequences without further events."""
        self._waiting, self._running = deque(), []

    @property
    def busy(self) -> bool:
        """True while any sequence is waiting or running."""
        return bool(self._waiting or self._running)

    @property
    def n_running(self) -> int:
        """The number of sequences in slots."""
        return len(self._running)

    @property
    def n_waiting(self) -> int:
        """The number of sequences that wait for a slot."""
        return len(self._waiting)

    def submit(self, request: Request) -> Hashable:
        """Queue the samples of a request and return its id.

        Raises InputError for a request that cannot be completed: an empty prompt, a token id outside the vocabulary,
        more tokens than the model or a slot can hold, or a missing tokenizer or draft model.
        """
        self._check(request)
        if self._stopping is None or self._stopping.spec is not request.spec:
            self._stopping = self._new_stopping_criteria(request.spec)
        request_id = next(self._ids) if request.id is None else request.id
        for sample in range(request.n_samples):
            self._waiting.append(EngineSequence.start(request, request_id, sample, self._stopping))
        return request_id

    def _new_stopping_criteria(self, spec: SamplingSpec) -> StoppingCriteria:
        """Return new criteria. Requests with equal processors share them, so their logits are processed together."""
        key = json.dumps([config.model_dump(mode="json") for config in spec.processors], sort_keys=True)
        sharing = self._stopping_by_processors.get(key)
        processors = None if sharing is None else sharing.processors
        stopping = StoppingCriteria(spec, self.tokenizer, self.model.spec.dims.vocab_size, processors)
        self._stopping_by_processors[key] = stopping
        return stopping

    @torch.inference_mode()
    def cancel(self, request_id: Hashable) -> bool:
        """Drop all samples of a request without further events. Return False if there were none."""
        n_before = len(self._waiting) + len(self._running)
        self._waiting = deque(sequence for sequence in self._waiting if sequence.request_id != request_id)
        for sequence in self._running:
            sequence.finished |= sequence.request_id == request_id
        self._compact_slots()
        return len(self._waiting) + len(self._running) < n_before

    @torch.inference_mode()
    def step(self) -> list[TokenEvent]:
        """Decode one token for every running sequence, then prefill waiting prompts into the free slots.

        With speculation a sequence may get several tokens. Its events are in the order of its tokens.
        """
        events = self._decode_step() if self._running else []
        while self._waiting and (free_slots := self._free_slots()):
            events += self._prefill_step(free_slots)
        self._compact_slots()
        return events

    def _check(self, request: Request) -> None:
        check_prompt(self.model, request.prompt_ids, request.spec)
        length = len(request.prompt_ids) + request.spec.max_new_tokens
        if length > self.max_length:
            raise InputError(
                f"a prompt of {len(request.prompt_ids)} tokens and {request.spec.max_new_tokens} new tokens need "
                f"{length} positions, but each slot of the engine holds {self.max_length}. Ask for fewer tokens, or "
                "give the engine a larger max_length."
            )
        if request.n_draft_tokens and self._draft is None:
            raise InputError("n_draft_tokens needs a draft model. Give the engine a `draft`.")
        if request.n_draft_tokens and self._draft is not None:
            check_draft_prompt(self._draft.model, request.prompt_ids, request.spec)

    def _free_slots(self) -> list[int]:
        finished = [slot for slot, sequence in enumerate(self._running) if sequence.finished]
        return [*finished, *range(len(self._running), self.n_slots)]

    def _prefill_step(self, free_slots: Sequence[int]) -> list[TokenEvent]:
        """Prefill the first waiting prompts of one length into free slots, and sample their first tokens."""
        candidates = self._admit(len(free_slots))
        events = [event for sequence in candidates if (event := sequence.finish_without_token()) is not None]
        admitted = [sequence for sequence in candidates if not sequence.finished]
        prefill_errors = prefill_or_collect_errors(admitted, self._cache, self._draft)
        events += [s.fail(prefill_errors[s.prompt_ids]) for s in admitted if s.prompt_ids in prefill_errors]
        admitted = [sequence for sequence in admitted if not sequence.finished]
        if not admitted:
            return events
        logits = []
        for slot, sequence in zip(free_slots, admitted, strict=False):
            logits.append(self._cache.assign_slot(slot, sequence.prompt_ids))
            if self._draft is not None and sequence.request.n_draft_tokens:
                self._draft.assign_slot(slot, sequence)
            self._running[slot : slot + 1] = [sequence]  # replaces a finished sequence, or appends
        waiting_prompts = {sequence.prompt_ids for sequence in self._waiting}
        for cache in self._caches:
            cache.keep_prefilled(waiting_prompts)
        return events + sample_next_tokens(admitted, torch.stack(logits))

    def _admit(self, n_free: int) -> list[EngineSequence]:
        """Take the sequences with the first one's prompt length out of the first `n_free` of the queue."""
        candidates = [self._waiting.popleft() for _ in range(min(n_free, len(self._waiting)))]
        length = candidates[0].prompt_length
        self._waiting.extendleft(s for s in reversed(candidates) if s.prompt_length != length)
        return [sequence for sequence in candidates if sequence.prompt_length == length]

    def _decode_step(self) -> list[TokenEvent]:
        """Decode the running sequences in one batch. If that fails, decode each of them alone."""
        snapshots = [SequenceSnapshot.take(sequence) for sequence in self._running]
        try:
            return self._decode(self._running, self._cache, self._draft)
        except Exception as error:
            _log.warning("a decode step failed, and each of its sequences is computed again", exc_info=error)
            traceback.clear_frames(error.__traceback__)  # they refer to the old cache
        for snapshot in snapshots:
            snapshot.restore()
        return self._decode_each_alone()

    def _decode_each_alone(self) -> list[TokenEvent]:
        """Allocate new caches, recompute the states of the running sequences and decode one step of each.

        A sequence whose computation fails again ends with the error.
        """
        self._reallocate()
        events: list[TokenEvent] = []
        for slot, sequence in enumerate(self._running):
            try:
                cache, draft = self._new_caches(1)
                recompute_states(sequence, cache, draft)
                events += self._decode([sequence], cache, draft)
                self._cache.copy_slot(slot, cache, 0)
                if self._draft is not None and draft is not None:
                    self._draft.cache.copy_slot(slot, draft.cache, 0)
            except Exception as error:
                events.append(sequence.fail(error))
        return events

    def _decode(
        self, sequences: Sequence[EngineSequence], cache: KVCacheManager, draft: DraftModel | None
    ) -> list[TokenEvent]:
        """Decode the last token of each sequence and the draft tokens after it; sample the next tokens.

        Slot i of `cache` and `draft` has sequence i.
        """
        proposals: list[list[Proposal]] = [[] for _ in sequences]
        draft_errors: dict[int, LogitsError] = {}
        if draft is not None:
            proposals, draft_errors = draft.propose(sequences)
        if any(proposals):
            cache.snapshot(len(sequences))
        inputs = [[s.tokens[-1], *(p.token for p in drafts)] for s, drafts in zip(sequences, proposals, strict=True)]
        n_cached = [len(s.tokens) + len(drafts) for s, drafts in zip(sequences, proposals, strict=True)]
        logits = cache.decode(inputs)  # (B, T, V)
        events = [sequences[slot].fail(error) for slot, error in draft_errors.items()]
        active = [slot for slot in range(len(sequences)) if slot not in draft_errors]
        for position in range(logits.shape[1]):
            if not active:
                break
            # Rows are padded on the left, so a slot's logits are counted from the end.
            columns = [position - 1 - len(proposals[slot]) for slot in active]
            is_full = logits.shape[1] == 1 and len(active) == len(sequences)
            position_logits = logits[:, 0] if is_full else logits[active, columns]
            drafts = [proposals[slot][position] if position < len(proposals[slot]) else None for slot in active]
            events += sample_next_tokens([sequences[slot] for slot in active], position_logits, drafts)
            active = [
                slot
                for slot, draft in zip(active, drafts, strict=True)
                if draft is not None and not sequences[slot].finished and sequences[slot].tokens[-1] == draft.token
            ]
        if draft is not None:
            # The last token is sampled, so it is in no cache yet.
            cache.rollback([n - (len(s.tokens) - 1) for s, n in zip(sequences, n_cached, strict=True)])
            draft.rollback_rejected(sequences)
        return events

    def _compact_slots(self) -> None:
        """Drop finished sequences and move the last ones into their slots, so that the slots in use come first."""
        slot = 0
        while slot < len(self._running):
            if not self._running[slot].finished:
                slot += 1
                continue
            last = self._running.pop()
            if slot < len(self._running):  # `last` may have finished as well, so look at this slot again
                if not last.finished:
                    for cache in self._caches:
                        cache.move_slot(slot, len(self._running))
                self._running[slot] = last

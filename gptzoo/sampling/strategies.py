"""Decoding strategies with text prompts: sampling, speculative decoding, contrastive search and beam search."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.engine.speculative import check_draft_prompt
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.generate import stream
from gptzoo.sampling.request import Request, check_prompt
from gptzoo.sampling.search.beam import beam_search_steps
from gptzoo.sampling.search.contrastive import contrastive_search
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.text import best_samples, encode_prompt, sample_ids, tokenizer_of
from gptzoo.sampling.text_stream import Sample, TextStream

Steps = Iterator[Iterable[TokenEvent] | None]


class Strategy:
    """Base class of decoding strategies: one model, one spec, text in and text out.

    A sample depends only on its prompt, its number and the spec. It does not depend on other samples in the batch.

    fit_length: shorten `max_new_tokens` for a prompt after which the model has fewer positions left.
    """

    def __init__(self, loaded: LoadedModel, spec: SamplingSpec, *, fit_length: bool = False):
        self.loaded, self.spec, self.fit_length = loaded, spec, fit_length
        self.tokenizer = tokenizer_of(loaded)

    def describe(self) -> dict[str, Any]:
        """Return the name and the options of the strategy as JSON values."""
        return {"type": type(self).__name__.lower()}

    def generate(self, prompt_ids: Sequence[int], spec: SamplingSpec, n: int) -> Iterator[Iterable[TokenEvent]]:
        """Yield the events of each of `n` samples after a prompt, one sample after the other."""
        raise TypeError(f"{type(self).__name__} does not implement generate")

    def generate_in_steps(self, prompt_ids: Sequence[int], spec: SamplingSpec, n: int) -> Steps:
        """Yield what `generate` yields, and None wherever the generation may be interrupted before the first event."""
        yield from self.generate(prompt_ids, spec, n)

    def check(self, prompt: str, n: int) -> None:
        """Raise InputError if `n` samples of a prompt cannot be generated. Computes nothing."""
        self.check_n_samples(n)
        self._encode_checked(prompt)

    def check_n_samples(self, n: int) -> None:
        """Raise InputError if the strategy cannot return `n` samples of one prompt."""

    def stream(self, prompt: str) -> Iterator[str]:
        """Yield the text of the first sample in pieces of whole characters."""
        prompt_ids, spec = self._encode(prompt)
        text = TextStream(self.tokenizer, spec)
        for event in next(iter(self.generate(prompt_ids, spec, 1))):
            yield text.feed(event)

    def samples(self, prompt: str, n: int = 1, best_of: int | None = None) -> list[Sample]:
        """Return `n` samples of a prompt. With `best_of`, return the best `n` of that many, the best first."""
        prompt_ids, spec = self._encode(prompt)
        samples = self._samples(prompt_ids, spec, best_of or n)
        return samples if best_of is None else best_samples(samples, n)

    def samples_of_prompts(
        self, prompts: Sequence[str], n: int = 1, best_of: int | None = None, n_slots: int = 8
    ) -> Iterator[tuple[int, list[Sample]]]:
        """Yield the index of each prompt and its samples, in the order in which they are finished.

        n_slots: batch size, for strategies that generate in batches.
        """
        for index, prompt in enumerate(prompts):
            yield index, self.samples(prompt, n, best_of)

    def _samples(self, prompt_ids: Sequence[int], spec: SamplingSpec, n: int) -> list[Sample]:
        samples = []
        text = TextStream(self.tokenizer, spec)
        for events in self.generate(prompt_ids, spec, n):
            for event in events:
                text.feed(event)
            samples.append(text.sample())
            text = TextStream(self.tokenizer, spec)
        return samples

    def _encode(self, prompt: str) -> tuple[list[int], SamplingSpec]:
        """Return the token ids of a prompt, and the spec with the length that fits."""
        prompt_ids, spec = encode_prompt(self.loaded, prompt), self.spec
        remaining = self._remaining_length(len(prompt_ids)) if self.fit_length else None
        if remaining is not None and 0 < remaining < spec.max_new_tokens:
            if remaining < spec.min_new_tokens:
                raise InputError(
                    f"after a prompt of {len(prompt_ids)} tokens the model has {remaining} positions left, fewer than "
                    f"min_new_tokens, which is {spec.min_new_tokens}. Lower it, or use a shorter prompt."
                )
            spec = spec.model_copy(update={"max_new_tokens": remaining})
        return prompt_ids, spec

    def _encode_checked(self, prompt: str) -> tuple[list[int], SamplingSpec]:
        prompt_ids, spec = self._encode(prompt)
        check_prompt(self.loaded.model, prompt_ids, spec)
        return prompt_ids, spec

    def _remaining_length(self, prompt_length: int) -> int | None:
        return self.loaded.model.remaining_length(prompt_length)


class Sampling(Strategy):
    """Random sampling from the processed distribution. Samples of a prompt are generated in one batch."""

    draft: LoadedModel | None = None
    n_draft_tokens = 0

    def generate(self, prompt_ids: Sequence[int], spec: SamplingSpec, n: int) -> Iterator[Iterable[TokenEvent]]:
        for number in range(n):
            steps = stream(
                self.loaded.model,
                [prompt_ids],
                spec,
                self.tokenizer,
                sample_numbers=[number],
                draft=self._draft_model,
                n_draft_tokens=self.n_draft_tokens,
            )
            yield (event for (event,) in steps if event is not None)

    def samples_of_prompts(
        self, prompts: Sequence[str], n: int = 1, best_of: int | None = None, n_slots: int = 8
    ) -> Iterator[tuple[int, list[Sample]]]:
        """Generate all prompts in one engine: when a sequence is finished, the next prompt takes its slot."""
        if not prompts:
            return
        waiting = deque(enumerate(map(self._encode_checked, prompts)))
        max_length = max(len(prompt_ids) + spec.max_new_tokens for _, (prompt_ids, spec) in waiting)
        engine = Engine(
            self.loaded.model, self.tokenizer, n_slots=n_slots, max_length=max_length, draft=self._draft_model
        )
        n_samples = best_of or n
        texts: dict[int, list[TextStream]] = {}  # by index of the prompt
        n_unfinished: Counter[int] = Counter()
        while waiting or engine.busy:
            while waiting and engine.n_waiting < n_slots:  # submitted late, so that its time starts when its turn comes
                index, (prompt_ids, spec) = waiting.popleft()
                request = Request(prompt_ids, spec, id=index, n_samples=n_samples, n_draft_tokens=self.n_draft_tokens)
                engine.submit(request)
                texts[index] = [TextStream(self.tokenizer, spec) for _ in range(n_samples)]
                n_unfinished[index] = n_samples
            for event in engine.step():
                index = event.request_id
                if event.error is not None:
                    raise event.error
                if event.token is not None:
                    texts[index][event.sample].feed(event)
                n_unfinished[index] -= event.finish_reason is not None
                if not n_unfinished[index]:
                    samples = [text.sample() for text in texts.pop(index)]
                    yield index, samples if best_of is None else best_samples(samples, n)

    def _samples(self, prompt_ids: Sequence[int], spec: SamplingSpec, n: int) -> list[Sample]:
        return sample_ids(
            self.loaded, [prompt_ids] * n, spec, draft=self._draft_model, n_draft_tokens=self.n_draft_tokens
        )

    @property
    def _draft_model(self) -> Architecture | None:
        return None if self.draft is None else self.draft.model


class Speculative(Sampling):
    """Sampling with speculative decoding: the same distribution with fewer forward passes of the model.

    draft: a smaller model with the same tokenizer that proposes up to `n_draft_tokens` tokens at a time.
    """

    draft: LoadedModel

    def __init__(
        self,
        loaded: LoadedModel,
        spec: SamplingSpec,
        draft: LoadedModel,
        n_draft_tokens: int = 4,
        *,
        fit_length: bool = False,
    ):
        super().__init__(loaded, spec, fit_length=fit_length)
        self.draft, self.n_draft_tokens = draft, n_draft_tokens
        check_draft_tokenizer(loaded, draft)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "draft": str(self.draft.folder), "n_ahead": self.n_draft_tokens}

    def _encode_checked(self, prompt: str) -> tuple[list[int], SamplingSpec]:
        prompt_ids, spec = super()._encode_checked(prompt)
        check_draft_prompt(self.draft.model, prompt_ids, spec)
        return prompt_ids, spec

    def _remaining_length(self, prompt_length: int) -> int | None:
        remaining = super()._remaining_length(prompt_length), self.draft.model.remaining_length(prompt_length)
        return min((n for n in remaining if n is not None), default=None)


def check_draft_tokenizer(loaded: LoadedModel, draft: LoadedModel) -> None:
    """Raise InputError unless the draft model has the tokenizer of the model."""
    if draft.tokenizer is None or draft.tokenizer.fingerprint() != tokenizer_of(loaded).fingerprint():
        raise InputError(
            f"{draft.folder}: its tokenizer differs from the tokenizer of {loaded.folder}. "
            "Choose a draft model with the same tokenizer."
        )


class Contrastive(Strategy):
    """Contrastive search. It is deterministic, so there is one sample of each prompt.

    n_top_logprobs: number of the most likely tokens to report with each event.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        spec: SamplingSpec,
        alpha: float = 0.6,
        n_candidates: int = 4,
        *,
        fit_length: bool = False,
        n_top_logprobs: int = 0,
    ):
        super().__init__(loaded, spec, fit_length=fit_length)
        self.n_top_logprobs = n_top_logprobs
        self.alpha, self.n_candidates = alpha, n_candidates

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "alpha": self.alpha, "n_candidates": self.n_candidates}

    def check_n_samples(self, n: int) -> None:
        if n > 1:
            raise InputError(f"contrastive search is deterministic and returns one sample per prompt, not {n}")

    def generate(self, prompt_ids: Sequence[int], spec: SamplingSpec, n: int) -> Iterator[Iterable[TokenEvent]]:
        for _ in range(n):
            yield contrastive_search(
                self.loaded.model,
                prompt_ids,
                spec,
                self.tokenizer,
                self.alpha,
                self.n_candidates,
                n_top_logprobs=self.n_top_logprobs,
            )


class Beams(Strategy):
    """Beam search. The samples are the beams, the best first. There may be fewer than requested.

    n_top_logprobs: number of the most likely tokens to report with each event.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        spec: SamplingSpec,
        n_beams: int = 4,
        length_penalty: float = 1.0,
        *,
        fit_length: bool = False,
        n_top_logprobs: int = 0,
    ):
        super().__init__(loaded, spec, fit_length=fit_length)
        self.n_top_logprobs = n_top_logprobs
        self.n_beams, self.length_penalty = n_beams, length_penalty

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "n_beams": self.n_beams, "length_penalty": self.length_penalty}

    def check_n_samples(self, n: int) -> None:
        if n > self.n_beams:
            raise InputError(f"{self.n_beams} beams cannot give {n} samples. Ask for more beams.")

    def generate(self, prompt_ids: Sequence[int], spec: SamplingSpec, n: int) -> Iterator[Iterable[TokenEvent]]:
        return (events for events in self.generate_in_steps(prompt_ids, spec, n) if events is not None)

    def generate_in_steps(self, prompt_ids: Sequence[int], spec: SamplingSpec, n: int) -> Steps:
        steps = beam_search_steps(
            self.loaded.model,
            prompt_ids,
            spec,
            self.tokenizer,
            self.n_beams,
            self.length_penalty,
            n_top_logprobs=self.n_top_logprobs,
        )
        for beams in steps:
            if beams is None:
                yield None
            else:
                yield from (beam.events for beam in beams[:n])

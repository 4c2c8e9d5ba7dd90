"""The decoding strategies that draw tokens: sampling, and speculative decoding."""

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
from gptzoo.sampling.request import Request
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.strategy import OnError, Prompt, Strategy, raise_error
from gptzoo.sampling.text import best_samples, sample_ids, tokenizer_of
from gptzoo.sampling.text_stream import Sample, TextStream


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
        self,
        prompts: Sequence[Prompt],
        n: int = 1,
        best_of: int | None = None,
        n_slots: int = 8,
        on_error: OnError = raise_error,
    ) -> Iterator[tuple[int, list[Sample]]]:
        """Generate all prompts in one engine: when a sequence is finished, the next prompt takes its slot."""
        waiting: deque[tuple[int, tuple[list[int], SamplingSpec]]] = deque()
        for index, prompt in enumerate(prompts):
            try:
                waiting.append((index, self._encode_checked(prompt)))
            except InputError as error:
                on_error(index, error)
        if not waiting:
            return
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
                if index not in texts:  # another sample of its prompt has failed
                    continue
                if event.error is not None:
                    del texts[index]
                    engine.cancel(index)
                    on_error(index, event.error)
                    continue
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

    def _encode_checked(self, prompt: Prompt) -> tuple[list[int], SamplingSpec]:
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

"""`Strategy`, the base class of decoding strategies with text prompts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NoReturn

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.errors import InputError
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.request import check_prompt
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.text import best_samples, encode_prompt, tokenizer_of
from gptzoo.sampling.text_stream import Sample, TextStream

Prompt = str | Sequence[int]  # text, or the token ids of a chat
Steps = Iterator[Iterable[TokenEvent] | None]
OnError = Callable[[int, Exception], object]


def raise_error(index: int, error: Exception) -> NoReturn:
    """Raise the exception of a prompt that fails."""
    raise error


class Strategy:
    """Base class of decoding strategies: one model, one spec, prompts in and text out.

    A sample depends only on its prompt, its number and the spec. It does not depend on other samples in the batch.

    fit_length: shorten `max_new_tokens` for a prompt after which the model has fewer positions left.
    """

    kind: ClassVar[str] = "strategy"

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

    def check(self, prompt: Prompt, n: int) -> None:
        """Raise InputError if `n` samples of a prompt cannot be generated. Computes nothing."""
        self.check_n_samples(n)
        self._encode_checked(prompt)

    def check_options(self, n: int) -> None:
        """Raise InputError if no prompt could get `n` samples, because of the options."""
        self.check_n_samples(n)
        StoppingCriteria(self.spec, self.tokenizer, self.loaded.spec.dims.vocab_size)

    def check_n_samples(self, n: int) -> None:
        """Raise InputError if the strategy cannot return `n` samples of one prompt."""

    def unmet_constraints(self, sample: Sample) -> list[str]:
        """Return the names of the logits processors whose guarantee a sample does not meet, because it was cut off."""
        sequence = TokenSequence(list(sample.tokens), 0)
        processors = StoppingCriteria(self.spec, self.tokenizer).processors
        return [processor.name for processor in processors if not processor.is_complete(sequence)]

    def stream(self, prompt: Prompt) -> Generator[str, None, Sample]:
        """Yield the text of the first sample in pieces of whole characters, and return the sample."""
        prompt_ids, spec = self._encode(prompt)
        text = TextStream(self.tokenizer, spec)
        for event in next(iter(self.generate(prompt_ids, spec, 1))):
            yield text.feed(event)
        return text.sample()

    def samples(self, prompt: Prompt, n: int = 1, best_of: int | None = None) -> list[Sample]:
        """Return `n` samples of a prompt. With `best_of`, return the best `n` of that many, the best first."""
        prompt_ids, spec = self._encode(prompt)
        samples = self._samples(prompt_ids, spec, best_of or n)
        return samples if best_of is None else best_samples(samples, n)

    def samples_of_prompts(
        self,
        prompts: Sequence[Prompt],
        n: int = 1,
        best_of: int | None = None,
        n_slots: int = 8,
        on_error: OnError = raise_error,
    ) -> Iterator[tuple[int, list[Sample]]]:
        """Yield the index of each prompt and its samples, in the order in which they are finished.

        n_slots: batch size, for strategies that generate in batches.
        on_error: called with the index and the exception of each prompt that fails. Default: the exception is raised.
        """
        for index, prompt in enumerate(prompts):
            try:
                self.check(prompt, best_of or n)
                samples = self.samples(prompt, n, best_of)
            except Exception as error:
                on_error(index, error)
                continue
            yield index, samples

    def _samples(self, prompt_ids: Sequence[int], spec: SamplingSpec, n: int) -> list[Sample]:
        samples = []
        text = TextStream(self.tokenizer, spec)
        for events in self.generate(prompt_ids, spec, n):
            for event in events:
                text.feed(event)
            samples.append(text.sample())
            text = TextStream(self.tokenizer, spec)
        return samples

    def _encode(self, prompt: Prompt) -> tuple[list[int], SamplingSpec]:
        """Return the token ids of a prompt, and the spec with the length that fits."""
        prompt_ids = encode_prompt(self.loaded, prompt) if isinstance(prompt, str) else list(prompt)
        spec = self.spec
        remaining = self._remaining_length(len(prompt_ids)) if self.fit_length else None
        if remaining is not None and 0 < remaining < spec.max_new_tokens:
            if remaining < spec.min_new_tokens:
                raise InputError(
                    f"after a prompt of {len(prompt_ids)} tokens the model has {remaining} positions left, fewer than "
                    f"min_new_tokens, which is {spec.min_new_tokens}. Lower it, or use a shorter prompt."
                )
            spec = spec.model_copy(update={"max_new_tokens": remaining})
        return prompt_ids, spec

    def _encode_checked(self, prompt: Prompt) -> tuple[list[int], SamplingSpec]:
        prompt_ids, spec = self._encode(prompt)
        check_prompt(self.loaded.model, prompt_ids, spec)
        return prompt_ids, spec

    def _remaining_length(self, prompt_length: int) -> int | None:
        return self.loaded.model.remaining_length(prompt_length)

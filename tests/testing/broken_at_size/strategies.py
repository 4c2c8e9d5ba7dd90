"""Decoding strategies that are wrong for several prompts, long texts or stop texts."""

from __future__ import annotations

from gptzoo.sampling.search.strategies import Beams
from gptzoo.sampling.strategies import Sampling
from gptzoo.sampling.text import sample_ids

from .table import caught_by


@caught_by("rows")
class SeedBySlot(Sampling):
    """Sampling of many prompts. Wrong: beyond four prompts, the random stream is that of the prompt's place."""

    def samples_of_prompts(self, prompts, n=1, best_of=None, n_slots=8):
        if len(prompts) <= 4 or best_of is not None:
            yield from super().samples_of_prompts(prompts, n, best_of, n_slots)
            return
        for index, prompt in enumerate(prompts):
            prompt_ids, spec = self._encode_checked(prompt)
            spec = spec.model_copy(update={"seed": spec.seed + index})
            yield index, self._samples(prompt_ids, spec, n)


@caught_by("rows")
class PaddedPrompts(Sampling):
    """Sampling of prompts in one batch. Wrong: a prompt of more than 16 tokens is cut to those of the shortest."""

    def samples_of_prompts(self, prompts, n=1, best_of=None, n_slots=8):
        encoded = [self._encode_checked(prompt)[0] for prompt in prompts]
        shortest = max(16, min(map(len, encoded)))
        for index, prompt_ids in enumerate(encoded):
            yield index, self._samples(prompt_ids[-shortest:], self.spec, n)


@caught_by("length")
class RoundedLength(Sampling):
    """Sampling in blocks of 16 tokens. Wrong: a longer text ends at a whole number of blocks."""

    def _encode(self, prompt):
        prompt_ids, spec = super()._encode(prompt)
        if spec.max_new_tokens > 16:
            spec = spec.model_copy(update={"max_new_tokens": spec.max_new_tokens // 16 * 16})
        return prompt_ids, spec


@caught_by("stopping")
class ShortStops(Sampling):
    """Sampling with stop texts. Wrong: a stop text of more than four characters is forgotten."""

    def _encode(self, prompt):
        prompt_ids, spec = super()._encode(prompt)
        return prompt_ids, spec.model_copy(update={"stop_texts": tuple(t for t in spec.stop_texts if len(t) <= 4)})


@caught_by("determinism")
class RunningSeed(Sampling):
    """Sampling that remembers texts. Wrong: after 16 texts, the seed counts on from call to call."""

    n_texts = 0

    def _samples(self, prompt_ids, spec, n):
        self.n_texts += n
        seed = spec.seed + (self.n_texts if self.n_texts > 16 else 0)
        return super()._samples(prompt_ids, spec.model_copy(update={"seed": seed}), n)


@caught_by("samples")
class EightSamples(Sampling):
    """Sampling of several texts for a prompt. Wrong: the ninth text has the number of the first."""

    def _samples(self, prompt_ids, spec, n):
        numbers = [number % 8 for number in range(n)]
        return sample_ids(self.loaded, [prompt_ids] * n, spec, numbers)


@caught_by("samples")
class WorstBeam(Beams):
    """Beam search. Wrong: more than four beams come in the order in which they ended."""

    def generate(self, prompt_ids, spec, n):
        events = [tuple(beam) for beam in super().generate(prompt_ids, spec, n)]
        yield from events if self.n_beams <= 4 else reversed(events)

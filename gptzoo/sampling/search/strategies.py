"""Beam search and contrastive search as decoding strategies with text prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypedDict, Unpack

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.errors import InputError
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.search.beam import beam_search_steps
from gptzoo.sampling.search.contrastive import contrastive_search
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.strategy import Steps, Strategy


class SearchOptions(TypedDict, total=False):
    """The options of all searches."""

    fit_length: bool
    n_top_logprobs: int


class Search(Strategy):
    """Base class of searches.

    n_top_logprobs: number of the most likely tokens to report with each event.
    """

    def __init__(self, loaded: LoadedModel, spec: SamplingSpec, *, fit_length: bool = False, n_top_logprobs: int = 0):
        super().__init__(loaded, spec, fit_length=fit_length)
        self.n_top_logprobs = n_top_logprobs


class Contrastive(Search):
    """Contrastive search. It is deterministic, so there is one sample of each prompt."""

    def __init__(
        self,
        loaded: LoadedModel,
        spec: SamplingSpec,
        alpha: float = 0.6,
        n_candidates: int = 4,
        **options: Unpack[SearchOptions],
    ):
        super().__init__(loaded, spec, **options)
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


class Beams(Search):
    """Beam search. The samples are the beams, the best first. There may be fewer than requested."""

    def __init__(
        self,
        loaded: LoadedModel,
        spec: SamplingSpec,
        n_beams: int = 4,
        length_penalty: float = 1.0,
        **options: Unpack[SearchOptions],
    ):
        super().__init__(loaded, spec, **options)
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

"""What a request asks of the model: prompts as ids, a sampling spec, and the way to write."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from gptzoo.checkpoint.model_folder import Loaded
from gptzoo.component import reason_of
from gptzoo.errors import InputError
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.engine.token_choice import Choice
from gptzoo.sampling.processors.processor import build_processors
from gptzoo.sampling.request import Request
from gptzoo.sampling.score import score_beside_likeliest
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.strategies import Beams, Contrastive, Strategy
from gptzoo.sampling.text import encode_prompt, tokenizer_of
from gptzoo.serving.errors import RequestError
from gptzoo.serving.protocol import AskedBeams, AskedSpeculative, CompletionRequest
from gptzoo.serving.worker import Job, PromptToken


@dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    max_length: int  # tokens, of a prompt and what is written after it
    max_texts: int = 128  # prompts times samples of each
    max_body: int = 2**20  # bytes


class Jobs:
    """Makes the jobs of requests, for one model."""

    def __init__(self, loaded: Loaded, limits: Limits, draft: Loaded | None = None):
        """`draft` is the smaller model of speculative decoding, where there is one: the engine's own."""
        self.loaded, self.limits, self.draft = loaded, limits, draft
        self.tokenizer = tokenizer_of(loaded)

    def of(self, asked: CompletionRequest) -> list[Job]:
        """One for each prompt. Raises RequestError for what cannot be answered, before anything is computed."""
        n_texts = len(asked.prompts) * asked.n_samples
        if n_texts > self.limits.max_texts:
            raise RequestError(
                400,
                f"{len(asked.prompts)} prompts with {asked.n_samples} samples each are more than the "
                f"{self.limits.max_texts} texts that one request may ask for",
                param="prompt",
            )
        prompts = [self._ids(prompt) for prompt in asked.prompts]
        seed = secrets.randbits(48) if asked.seed is None else asked.seed % 2**63
        return [self._job(asked, ids, seed) for ids in prompts]

    def _job(self, asked: CompletionRequest, ids: Sequence[int], seed: int) -> Job:
        room = self._room(ids, speculates=isinstance(asked.strategy, AskedSpeculative))
        n_new = room if asked.max_tokens is None else asked.max_tokens
        if n_new > room:
            raise RequestError(
                400,
                f"the prompt's {len(ids)} tokens and max_tokens {n_new} are {len(ids) + n_new} together; this model "
                f"has room for {len(ids) + room}",
                param="max_tokens",
                code="context_length_exceeded",
            )
        spec = self._spec(asked, n_new, seed)
        request = Request(
            ids,
            spec,
            n_samples=asked.n_samples,
            n_likeliest=asked.logprobs or 0,
            n_ahead=asked.strategy.n_ahead if isinstance(asked.strategy, AskedSpeculative) else 0,
        )
        prompt = (lambda: self._score(ids, asked.logprobs or 0)) if asked.echo and asked.logprobs is not None else None
        return Job(request, prompt=prompt, rows=self._rows(asked, ids, spec))

    def _ids(self, prompt: str | list[int]) -> list[int]:
        vocab_size = self.loaded.model.spec.dims.vocab_size
        if isinstance(prompt, str):
            try:
                return encode_prompt(self.loaded, prompt)
            except InputError as error:
                raise RequestError(400, str(error), param="prompt") from None
        if wrong := [token for token in prompt if token >= vocab_size]:
            raise RequestError(
                400, f"token id {wrong[0]} is outside the model's vocabulary of {vocab_size}", param="prompt"
            )
        return prompt

    def _room(self, ids: Sequence[int], *, speculates: bool) -> int:
        """How many tokens may be written after a prompt."""
        models = [self.loaded.model]
        if speculates:
            models.append(self._draft().model)
        by_positions = [room for model in models if (room := model.remaining_length(len(ids))) is not None]
        room = min([self.limits.max_length - len(ids), *by_positions])
        if room < 0:
            raise RequestError(
                400,
                f"the prompt's {len(ids)} tokens are {-room} more than this model has room for",
                param="prompt",
                code="context_length_exceeded",
            )
        return room

    def _spec(self, asked: CompletionRequest, n_new: int, seed: int) -> SamplingSpec:
        eot = () if self.tokenizer.eot is None else (self.tokenizer.eot,)
        try:
            spec = SamplingSpec.model_validate(
                {
                    "max_new_tokens": n_new,
                    "processors": asked.chain(),
                    "stop_tokens": (*eot, *(asked.stop_tokens or ())),
                    "stop_texts": asked.stop or (),
                    "seed": seed,
                }
            )
            StoppingCriteria(spec, build_processors(spec.processors, self.tokenizer), self.tokenizer)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise RequestError(400, f"{'.'.join(map(str, first['loc']))}: {reason_of(first)}") from None
        except InputError as error:
            raise RequestError(400, str(error), param="processors" if asked.processors else None) from None
        return spec

    def _rows(
        self, asked: CompletionRequest, ids: Sequence[int], spec: SamplingSpec
    ) -> Callable[[], Iterable[Iterable[Choice]]] | None:
        how = asked.strategy
        if how is None or isinstance(how, AskedSpeculative):
            return None
        options = how.model_dump(exclude={"type"})
        strategy: Strategy
        try:
            if isinstance(how, AskedBeams):
                strategy = Beams(self.loaded, spec, **options)
            else:
                strategy = Contrastive(self.loaded, spec, **options)
            strategy.refuse_count(asked.n_samples)
        except InputError as error:
            raise RequestError(400, str(error), param="strategy") from None
        return lambda: strategy.rows(ids, spec, asked.n_samples)

    def _draft(self) -> Loaded:
        if self.draft is None:
            reason = "this server has no draft model to speculate with; start it with --draft"
            raise RequestError(400, reason, param="strategy")
        return self.draft

    def _score(self, ids: Sequence[int], n_likeliest: int) -> list[PromptToken]:
        scored = score_beside_likeliest(self.loaded.model, ids, n_likeliest)
        return [PromptToken(ids[0], None, {}), *(PromptToken(*each) for each in scored)]

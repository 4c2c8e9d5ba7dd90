"""`RequestBuilder`, which converts the body of an HTTP request to requests for the scheduler."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.chat.prompt import find_template
from gptzoo.errors import InputError
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.request import Request
from gptzoo.sampling.score import ScoredToken, score_with_top_logprobs
from gptzoo.sampling.search.strategies import Beams, Contrastive
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.strategy import Strategy
from gptzoo.sampling.text import encode_prompt, tokenizer_of
from gptzoo.serving.chat.request import ChatMessage
from gptzoo.serving.errors import RequestError
from gptzoo.serving.protocol import CompletionRequest
from gptzoo.serving.request_options import BeamOptions, SpeculativeOptions
from gptzoo.serving.scheduler import QueuedRequest
from gptzoo.strict_model import reason_of


@dataclass(frozen=True)
class Limits:
    """Limits of one HTTP request."""

    max_length: int  # tokens, prompt and new tokens together
    max_texts: int = 128  # prompts times samples per prompt
    max_body: int = 2**20  # bytes


class RequestBuilder:
    """Builder of the requests for one model.

    draft: the engine's draft model, if there is one.
    chat_template: Jinja template, or the name of one of the model's. Default: the model's template.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        limits: Limits,
        draft: LoadedModel | None = None,
        chat_template: str | None = None,
    ):
        self.loaded, self.limits, self.draft, self.chat_template = loaded, limits, draft, chat_template
        self.tokenizer = tokenizer_of(loaded)

    def build(self, body: CompletionRequest) -> list[QueuedRequest]:
        """Return one request per prompt. Raises RequestError if one cannot be served. Computes nothing."""
        n_texts = len(body.prompts) * body.n_samples
        if n_texts > self.limits.max_texts:
            raise RequestError(
                400,
                f"{len(body.prompts)} prompts with {body.n_samples} samples each are more than the "
                f"{self.limits.max_texts} texts that one request may ask for",
                param="prompt",
            )
        prompts = [self.encode(prompt) for prompt in body.prompts]
        seed = secrets.randbits(48) if body.seed is None else body.seed % 2**63
        return [self._build_one(body, prompt_ids, seed) for prompt_ids in prompts]

    @property
    def no_chat_reason(self) -> str | None:
        """The reason why the model answers no chats, or None if it has a chat template."""
        try:
            find_template(self.tokenizer, self.chat_template)
        except InputError as error:
            return str(error)
        return None

    def encode_chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Return the token ids of a chat. Raises RequestError (400) without a chat template, or if it fails."""
        try:
            return self.loaded.chat_prompt(
                [message.values() for message in messages],
                chat_template=self.chat_template,
                add_generation_prompt=add_generation_prompt,
                variables=variables,
            )
        except InputError as error:
            raise RequestError(400, str(error), param="messages") from None

    def _build_one(self, body: CompletionRequest, prompt_ids: Sequence[int], seed: int) -> QueuedRequest:
        speculative = body.strategy if isinstance(body.strategy, SpeculativeOptions) else None
        remaining = self._remaining_length(prompt_ids, with_draft=speculative is not None)
        max_new_tokens = remaining if body.max_tokens is None else body.max_tokens
        if max_new_tokens > remaining:
            raise RequestError(
                400,
                f"the prompt has {len(prompt_ids)} tokens and max_tokens is {max_new_tokens}, "
                f"{len(prompt_ids) + max_new_tokens} together; the maximum is {len(prompt_ids) + remaining} tokens",
                param="max_tokens",
                code="context_length_exceeded",
            )
        if body.min_tokens > max_new_tokens:  # max_tokens is null
            message = f"at most {max_new_tokens} tokens fit after the prompt, which has {len(prompt_ids)}"
            raise RequestError(400, message, param="min_tokens", code="context_length_exceeded")
        spec = self._spec(body, max_new_tokens, seed)
        n_top_logprobs = body.logprobs or 0
        request = Request(
            prompt_ids,
            spec,
            n_samples=body.n_samples,
            n_top_logprobs=n_top_logprobs,
            n_draft_tokens=0 if speculative is None else speculative.n_ahead,
        )
        scores_prompt = body.echo and body.logprobs is not None
        return QueuedRequest(
            request,
            score_prompt=partial(self._score_prompt, prompt_ids, n_top_logprobs) if scores_prompt else None,
            search=self._search(body, prompt_ids, spec),
        )

    def encode(self, prompt: str | list[int]) -> list[int]:
        """Return the token ids of a prompt. Raises RequestError (400) for ids that are not in the vocabulary."""
        vocab_size = self.loaded.model.spec.dims.vocab_size
        if isinstance(prompt, str):
            try:
                return encode_prompt(self.loaded, prompt)
            except InputError as error:
                raise RequestError(400, str(error), param="prompt") from None
        if unknown := [token for token in prompt if token >= vocab_size]:
            raise RequestError(
                400, f"token id {unknown[0]} is outside the model's vocabulary of {vocab_size} tokens", param="prompt"
            )
        if unknown := [token for token in prompt if token >= self.tokenizer.vocab_size]:
            raise RequestError(
                400,
                f"token id {unknown[0]} is a spare id of the model. The tokenizer has {self.tokenizer.vocab_size} ids.",
                param="prompt",
            )
        return prompt

    def _remaining_length(self, prompt_ids: Sequence[int], *, with_draft: bool) -> int:
        """Return how many tokens may follow a prompt. Raises RequestError if the prompt itself is too long."""
        models = [self.loaded.model]
        if with_draft:
            models.append(self._require_draft().model)
        by_positions = [n for model in models if (n := model.remaining_length(len(prompt_ids))) is not None]
        remaining = min([self.limits.max_length - len(prompt_ids), *by_positions])
        if remaining < 0:
            raise RequestError(
                400,
                f"the prompt has {len(prompt_ids)} tokens, {-remaining} more than the maximum",
                param="prompt",
                code="context_length_exceeded",
            )
        return remaining

    def _spec(self, body: CompletionRequest, max_new_tokens: int, seed: int) -> SamplingSpec:
        end_tokens = () if body.ignore_eos else self.tokenizer.end_tokens
        try:
            spec = SamplingSpec.model_validate(
                {
                    "max_new_tokens": max_new_tokens,
                    "min_new_tokens": body.min_tokens,
                    "processors": body.processor_configs(),
                    "stop_tokens": (*end_tokens, *(body.stop_token_ids or ()), *(body.stop_tokens or ())),
                    "ignore_eos": bool(body.ignore_eos),
                    "stop_texts": body.stop or (),
                    "include_stop_text": bool(body.include_stop_str_in_output),
                    "seed": seed,
                }
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            location = first["loc"]
            param = str(location[0])
            if param == "processors" and body.processors is None and len(location) > 1:
                param = body.field_of_processor(int(location[1]))
            raise RequestError(400, f"{'.'.join(map(str, location))}: {reason_of(first)}", param=param) from None
        try:
            self._stopping_criteria(spec)
        except InputError as error:
            raise RequestError(400, str(error), param=self._failing_field(body, spec)) from None
        return spec

    def _stopping_criteria(self, spec: SamplingSpec) -> StoppingCriteria:
        """Build the processors of a spec. Raises InputError if one of them rejects its options."""
        return StoppingCriteria(spec, self.tokenizer, self.loaded.spec.dims.vocab_size)

    def _failing_field(self, body: CompletionRequest, spec: SamplingSpec) -> str:
        """Return the field of the request whose processor cannot be built."""
        if body.processors is None:
            for index, config in enumerate(spec.processors):
                try:
                    self._stopping_criteria(SamplingSpec(processors=(config,)))
                except InputError:
                    return body.field_of_processor(index)
        return "processors"

    def _search(
        self, body: CompletionRequest, prompt_ids: Sequence[int], spec: SamplingSpec
    ) -> Callable[[], Iterable[Iterable[TokenEvent] | None]] | None:
        """Return the search that generates the samples, or None if the engine does."""
        if body.strategy is None or isinstance(body.strategy, SpeculativeOptions):
            return None
        options = {**body.strategy.model_dump(exclude={"type"}), "n_top_logprobs": body.logprobs or 0}
        strategy: Strategy
        try:
            if isinstance(body.strategy, BeamOptions):
                strategy = Beams(self.loaded, spec, **options)
            else:
                strategy = Contrastive(self.loaded, spec, **options)
            strategy.check_n_samples(body.n_samples)
        except InputError as error:
            raise RequestError(400, str(error), param="strategy") from None
        return lambda: strategy.generate_in_steps(prompt_ids, spec, body.n_samples)

    def _require_draft(self) -> LoadedModel:
        if self.draft is None:
            message = "this server has no draft model for speculative decoding. Start it with --draft."
            raise RequestError(400, message, param="strategy")
        return self.draft

    def _score_prompt(self, prompt_ids: Sequence[int], n_top_logprobs: int) -> list[ScoredToken]:
        scored = score_with_top_logprobs(self.loaded.model, prompt_ids, n_top_logprobs, self.tokenizer.vocab_size)
        return [ScoredToken(prompt_ids[0], None, {}), *scored]

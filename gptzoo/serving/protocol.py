"""The body of `POST /v1/completions`, as OpenAI's API has it, and what it means for the sampler."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import Field, NonNegativeInt, ValidationError, field_validator, model_validator

from gptzoo.component import Config, SpecModel, located, reason_of, refusal
from gptzoo.reference import Reference
from gptzoo.serving.errors import RequestError

_IN_CHAIN = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "response_format")
_Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]


class StreamOptions(SpecModel):
    """What a stream holds beside text."""

    include_usage: bool = False
    include_obfuscation: bool | None = None
    """Accepted and without effect."""


class AskedBeams(SpecModel):
    """Beam search: the likeliest texts, the best first."""

    type: Literal["beams"]
    n_beams: Annotated[int, Field(ge=1, le=64)] = 4
    length_penalty: Annotated[float, Field(ge=-10.0, le=10.0)] = 1.0


class AskedContrastive(SpecModel):
    """Contrastive search: likely tokens that repeat the text before the least."""

    type: Literal["contrastive"]
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.6
    n_candidates: Annotated[int, Field(ge=1, le=64)] = 4


class AskedSpeculative(SpecModel):
    """Drawn from the same distribution, with the help of the server's draft model."""

    type: Literal["speculative"]
    n_ahead: Annotated[int, Field(ge=1, le=32)] = 4


class ResponseFormat(SpecModel):
    """What the text must be, as OpenAI's chat has it."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None
    """An object whose "schema" is the JSON Schema; its name and what else it says have no effect."""

    @model_validator(mode="after")
    def _check(self) -> ResponseFormat:
        given = self.json_schema is not None
        if given != (self.type == "json_schema"):
            raise refusal(f"type {self.type!r} {'takes no' if given else 'needs a'} json_schema")
        if given and not isinstance((self.json_schema or {}).get("schema"), dict):
            raise refusal('json_schema is an object with a "schema", which is one too')
        return self

    def chain(self) -> list[dict[str, Any]]:
        """The logits processors that it stands for."""
        if self.type == "text":
            return []
        definition = {"type": "object"} if self.json_schema is None else self.json_schema["schema"]
        return [{"type": "json_schema", "definition": definition}]


AskedStrategy = Annotated[AskedBeams | AskedContrastive | AskedSpeculative, Field(discriminator="type")]


class CompletionRequest(SpecModel):
    """What is asked. Fields of OpenAI's API mean what they mean there.

    Beyond its completions are `response_format`, which its chat has, and gptzoo's own `processors`, `strategy` and
    `stop_tokens`.
    """

    model: str
    prompt: str | list[str] | list[int] | list[list[int]] = ""
    """One or many, as text or as ids; empty, the start of a text."""
    max_tokens: NonNegativeInt | None = 16
    n: Annotated[int, Field(ge=1, le=128)] = 1
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    """So many are sampled, and the `n` of the highest mean log-probability are the answer."""
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100.0, le=100.0)]] | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)] | None = None
    """One text, or up to so many."""
    stop_tokens: list[NonNegativeInt] | None = None
    """Ids that end a text, beside the token that ends all texts."""
    seed: int | None = None
    """Left out, every request gets another."""
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = False
    suffix: None = None
    """A decoder writes on from a prompt; it cannot be given the end."""
    user: str | None = None
    response_format: ResponseFormat | None = None
    processors: list[Annotated[Config, Reference("logits_processor")]] | None = None
    """The whole chain of processors, in place of those that the fields above stand for."""
    strategy: AskedStrategy | None = None
    """Another way to write than by drawing tokens."""

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("prompt", mode="before")
    @classmethod
    def _shape(cls, value: Any) -> Any:
        """One message instead of one for each thing that a prompt may be."""
        if isinstance(value, str) or (isinstance(value, list) and (_all(value, str) or _all(value, int))):
            return value
        if isinstance(value, list) and _all(value, list) and all(ids and _all(ids, int) for ids in value):
            return value
        raise refusal("should be a text, a list of texts, a list of token ids, or a list of such lists")

    @model_validator(mode="after")
    def _check(self) -> CompletionRequest:
        errors = []
        if self.best_of is not None and self.best_of < self.n:
            errors.append(located(f"must be at least n, which is {self.n}", "best_of", value=self.best_of))
        if self.stream and self.best_of not in (None, self.n):
            errors.append(located("which of them are best is known at the end only; it cannot be streamed", "best_of"))
        if self.stream_options is not None and not self.stream:
            errors.append(located("is for requests with stream", "stream_options"))
        if self.processors is not None:
            for name in _IN_CHAIN:
                if getattr(self, name) is not None:
                    errors.append(located("is what processors says already; give one of the two", name))
        if errors:
            raise ValidationError.from_exception_data("CompletionRequest", errors)
        return self

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """Each prompt, as text or as ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [cast(list[int], self.prompt)]
        return cast(Sequence[str | list[int]], self.prompt)

    @property
    def n_samples(self) -> int:
        """How many are sampled of each prompt."""
        return self.best_of or self.n

    def chain(self) -> list[Any]:
        """The logits processors that the request asks for, in order."""
        if self.processors is not None:
            return list(self.processors)
        chain = [] if self.response_format is None else self.response_format.chain()
        if self.presence_penalty:
            chain.append({"type": "presence_penalty", "value": self.presence_penalty})
        if self.frequency_penalty:
            chain.append({"type": "frequency_penalty", "value": self.frequency_penalty})
        if self.logit_bias:
            chain.append({"type": "logit_bias", "biases": self.logit_bias})
        if self.temperature not in (None, 1.0):
            chain.append({"type": "temperature", "value": float(self.temperature)})
        if self.top_p not in (None, 1.0):
            chain.append({"type": "top_p", "p": float(self.top_p)})
        return chain


def _all(values: list[Any], kind: type) -> bool:
    """Whether there are values, all of one type, and no id below 0."""
    return bool(values) and all(type(value) is kind and (type(value) is not int or value >= 0) for value in values)


def read_request(body: bytes) -> CompletionRequest:
    """The request in a body. Raises RequestError (400) that names the field."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise RequestError(400, "the body is not a JSON object")
    try:
        return CompletionRequest.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = str(first["loc"][0]) if first["loc"] else None
        place = ".".join(map(str, first["loc"]))
        raise RequestError(400, f"{place}: {reason_of(first)}" if place else reason_of(first), param=param) from None

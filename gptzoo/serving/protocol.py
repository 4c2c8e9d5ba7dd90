"""The request body of `POST /v1/completions`, in OpenAI's format with gptzoo's extensions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Self, TypeVar, cast

from pydantic import (
    BaseModel,
    Field,
    GetJsonSchemaHandler,
    NonNegativeInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from gptzoo.component import Config
from gptzoo.errors import SpecError
from gptzoo.reference import Reference
from gptzoo.serving.errors import RequestError
from gptzoo.serving.request_options import ResponseFormat, StrategyOptions, StreamOptions
from gptzoo.spec.strict_json import parse_json
from gptzoo.strict_model import (
    LONE_SURROGATE,
    StrictModel,
    custom_error,
    error_at,
    escape_surrogates,
    lone_surrogate_path,
    reason_of,
)

# Fields that stand for logits processors, so they exclude the field `processors`.
# Their values that change nothing. Some clients always send them.
_NEUTRAL_VALUES: dict[str, tuple[object, ...]] = {
    "temperature": (1.0,),
    "top_p": (1.0,),
    "top_k": (0, -1),
    "min_p": (0.0,),
    "repetition_penalty": (1.0,),
    "presence_penalty": (0.0,),
    "frequency_penalty": (0.0,),
    "logit_bias": ({},),
    "response_format": (),
}
# What null or an empty value stands for.
_DEFAULTS_OF_EMPTY: dict[str, dict[object, object]] = {
    "prompt": {None: ""},
    "min_tokens": {None: 0},
    "n": {None: 1},
    "stop": {"": None},
    "suffix": {"": None},
    "logprobs": {False: None},
}
M = TypeVar("M", bound=BaseModel)
_Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]


class CompletionRequest(StrictModel):
    """The body of a completion request. Fields of OpenAI's API have the meaning that they have there.

    The extensions are fields of vLLM's API (`top_k`, `min_p`, `repetition_penalty`, `min_tokens`, `ignore_eos`,
    `stop_token_ids` and `include_stop_str_in_output`), `response_format`, which is a field of OpenAI's chat API, and
    gptzoo's own `processors`, `strategy` and `stop_tokens`.
    """

    model: str
    """Name of the model, as /v1/models lists it."""
    prompt: str | list[str] | list[int] | list[list[int]] = ""
    """One or several prompts, as text or as token ids. An empty prompt starts a new text."""
    max_tokens: NonNegativeInt | None = 16
    """Maximum number of new tokens. null: as many as fit."""
    min_tokens: NonNegativeInt = 0
    """Number of tokens before a text may end. They contain neither the end-of-text token nor a stop token, and a stop
    string does not end the text unless a later token completes it. Default: 0."""
    n: Annotated[int, Field(ge=1, le=128)] = 1
    """Number of samples per prompt to return."""
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    """Number of samples to generate. The `n` with the highest mean log-probability are returned. Default: n."""
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    """Sampling temperature. 0 is greedy decoding. Default: 1."""
    top_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Total probability that nucleus sampling keeps. 0 keeps only the most likely token. Default: 1, all tokens."""
    top_k: Annotated[int, Field(ge=-1)] | None = None
    """Number of most likely tokens to keep. Default: 0, which keeps all tokens, as -1 does."""
    min_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Minimum probability, as a fraction of the highest probability. Default: 0, which keeps all tokens."""
    repetition_penalty: Annotated[float, Field(ge=1e-4, le=1e4)] | None = None
    """Penalty factor for tokens of the prompt and of the text so far. Default: 1, which changes nothing."""
    presence_penalty: _Penalty | None = None
    """Penalty in nats for tokens that were generated before. Default: 0."""
    frequency_penalty: _Penalty | None = None
    """Penalty in nats for each time that a token was generated before. Default: 0."""
    logit_bias: dict[str, Annotated[float, Field(ge=-100.0, le=100.0)]] | None = None
    """Value added to the logit, in nats, by token id."""
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)] | None = None
    """One or up to 16 strings that end the text. They are not part of it."""
    stop_token_ids: list[NonNegativeInt] | None = None
    """Token ids that end the text, in addition to the end-of-text token. They are not part of it."""
    stop_tokens: list[NonNegativeInt] | None = None
    """gptzoo's name of `stop_token_ids`. The tokens of both lists end the text."""
    include_stop_str_in_output: bool | None = False
    """Return the stop string or stop token that ends the text as part of it. Default: false."""
    ignore_eos: bool | None = False
    """Continue after the end-of-text token. It still ends the text if it is in `stop_token_ids`. Default: false."""
    seed: int | None = None
    """Random seed. Default: a new one for each request."""
    stream: bool | None = False
    """Send the text in pieces, as server-sent events."""
    stream_options: StreamOptions | None = None
    """Options of a streamed response."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Number of top log-probabilities to return with each token. Default: no log-probabilities."""
    echo: bool | None = False
    """Return the prompt before the new text."""
    suffix: None = None
    """Not supported: a decoder-only model cannot be given the end of a text. "" counts as null."""
    user: str | None = None
    """Accepted for compatibility. It has no effect."""
    response_format: ResponseFormat | None = None
    """Format that the text must have."""
    processors: list[Annotated[Config, Reference("logits_processor")]] | None = None
    """All logits processors, in order. They replace those that the fields above stand for."""
    strategy: StrategyOptions | None = None
    """Decoding strategy. Default: sampling."""

    @model_validator(mode="before")
    @classmethod
    def _replace_empty(cls, data: object) -> object:
        """Replace null and empty values that clients send for a field that is not used."""
        if not isinstance(data, dict):
            return data
        replaced = {
            name: default
            for name, defaults in _DEFAULTS_OF_EMPTY.items()
            for empty, default in defaults.items()
            if name in data and type(data[name]) is type(empty) and data[name] == empty
        }
        return {**data, **replaced}

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("prompt", mode="before")
    @classmethod
    def _check_prompt_type(cls, value: object) -> object:
        """Raise one error instead of one for each type that a prompt may have."""
        if isinstance(value, str) or (isinstance(value, list) and (_all(value, str) or _all(value, int))):
            return value
        if isinstance(value, list) and _all(value, list) and all(ids and _all(ids, int) for ids in value):
            return value
        raise custom_error("should be a text, a list of texts, a list of token ids, or a list of such lists")

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the values that the validators above accept to the JSON Schema."""
        reference = handler(core_schema)
        properties = handler.resolve_ref_schema(reference)["properties"]
        for name, defaults in _DEFAULTS_OF_EMPTY.items():
            _add_alternatives(properties[name], *({"const": empty} for empty in defaults))
        _add_alternatives(properties["stop"], {"type": "string"})
        ids = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
        texts = {"type": "array", "items": {"type": "string"}, "minItems": 1}
        lists = {"type": "array", "items": ids, "minItems": 1}
        properties["prompt"]["anyOf"] = [{"type": ["string", "null"]}, texts, ids, lists]
        return reference

    @model_validator(mode="after")
    def _check(self) -> Self:
        errors = []
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            message = f"must be at most max_tokens, which is {self.max_tokens}"
            errors.append(error_at(message, "min_tokens", value=self.min_tokens))
        if self.best_of is not None and self.best_of < self.n:
            errors.append(error_at(f"must be at least n, which is {self.n}", "best_of", value=self.best_of))
        if self.stream and self.best_of not in (None, self.n):
            errors.append(error_at("cannot be streamed, because all samples must be finished first", "best_of"))
        if self.stream_options is not None and not self.stream:
            errors.append(error_at("requires stream", "stream_options"))
        if self.processors is not None:
            for name in _NEUTRAL_VALUES:
                if self._given(name) is not None:
                    errors.append(error_at("cannot be combined with processors", name))
        if errors:
            raise ValidationError.from_exception_data("CompletionRequest", errors)
        return self

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts, each as text or as token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [cast(list[int], self.prompt)]
        return cast(Sequence[str | list[int]], self.prompt)

    @property
    def n_samples(self) -> int:
        """The number of samples to generate per prompt."""
        return self.best_of or self.n

    def processor_configs(self) -> list[Any]:
        """Return the configs of the logits processors that the request asks for, in order."""
        if self.processors is not None:
            return list(self.processors)
        configs = [] if self.response_format is None else self.response_format.processor_configs()
        if (repetition_penalty := self._given("repetition_penalty")) is not None:
            configs.append({"type": "repetition_penalty", "value": float(repetition_penalty)})
        if self.presence_penalty:
            configs.append({"type": "presence_penalty", "value": self.presence_penalty})
        if self.frequency_penalty:
            configs.append({"type": "frequency_penalty", "value": self.frequency_penalty})
        if self.logit_bias:
            configs.append({"type": "logit_bias", "biases": self.logit_bias})
        if (temperature := self._given("temperature")) is not None:
            configs.append({"type": "temperature", "value": float(temperature)})
        if (top_k := self._given("top_k")) is not None:
            configs.append({"type": "top_k", "k": top_k})
        if self.top_p == 0:
            configs.append({"type": "top_k", "k": 1})
        elif (top_p := self._given("top_p")) is not None:
            configs.append({"type": "top_p", "p": float(top_p)})
        if (min_p := self._given("min_p")) is not None:
            configs.append({"type": "min_p", "p": float(min_p)})
        return configs

    def field_of_processor(self, index: int) -> str:
        """Return the field that a processor of `processor_configs` comes from."""
        if self.processors is not None:
            return "processors"
        name = self.processor_configs()[index]["type"]
        return {"json_schema": "response_format"}.get(name, str(name))

    def _given(self, name: str) -> Any:  # noqa: ANN401  fields have different types
        """Return the value of a field that stands for a logits processor, or None if it changes nothing."""
        value = getattr(self, name)
        return None if value in _NEUTRAL_VALUES[name] else value


def _all(values: list[Any], kind: type) -> bool:
    """Return True if the list is not empty, all values have one type, and no int is negative."""
    return bool(values) and all(type(value) is kind and (type(value) is not int or value >= 0) for value in values)


def _add_alternatives(schema: dict[str, Any], *alternatives: dict[str, Any]) -> None:
    """Change the JSON Schema of a field so that it accepts the alternatives as well."""
    annotations: dict[str, Any] = {name: schema.pop(name) for name in ("description", "default") if name in schema}
    known = schema.pop("anyOf") if "anyOf" in schema else [dict(schema)]
    schema.clear()
    schema["anyOf"] = [*known, *(each for each in alternatives if each not in known)]
    schema.update(annotations)


def read_request(body: bytes) -> CompletionRequest:
    """Parse the body of a completion request. Raises RequestError (400) with the name of the wrong field."""
    return read_json(CompletionRequest, body)


def read_json(model: type[M], body: bytes) -> M:
    """Parse a request body. Raises RequestError (400) with the name of the wrong field."""
    try:
        data = parse_json(body.decode(json.detect_encoding(body)), "the body")
        bad_path = lone_surrogate_path(data)
    except UnicodeDecodeError as error:
        raise RequestError(400, f"the body is not JSON: byte {error.start} is not {error.encoding.upper()}") from None
    except SpecError as error:
        problem = error.problems[0]
        raise RequestError(400, f"the body is not valid JSON: {problem.path}: {problem.reason}") from None
    except RecursionError:
        raise RequestError(400, "the body is nested too deeply") from None
    if not isinstance(data, dict):
        raise RequestError(400, "the body is not a JSON object")
    if bad_path is not None:
        location = escape_surrogates(".".join(map(str, bad_path)))
        raise RequestError(400, f"{location}: {LONE_SURROGATE}", param=escape_surrogates(str(bad_path[0])))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = str(first["loc"][0]) if first["loc"] else None
        location = ".".join(map(str, first["loc"]))
        raise RequestError(
            400, f"{location}: {reason_of(first)}" if location else reason_of(first), param=param
        ) from None

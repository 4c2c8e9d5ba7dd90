"""The request body of `POST /v1/completions`, in OpenAI's format with gptzoo's extensions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self, TypeVar, cast

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

from gptzoo.errors import SpecError
from gptzoo.serving.errors import RequestError
from gptzoo.serving.sampling_fields import SamplingFields
from gptzoo.spec.strict_json import parse_json
from gptzoo.strict_model import (
    LONE_SURROGATE,
    error_at,
    escape_surrogates,
    lone_surrogate_path,
    option_error,
    reason_of,
)

M = TypeVar("M", bound=BaseModel)


class CompletionRequest(SamplingFields):
    """The body of a completion request. Fields of OpenAI's API have the meaning that they have there.

    The extensions are fields of vLLM's API (`top_k`, `min_p`, `repetition_penalty`, `min_tokens`, `ignore_eos`,
    `stop_token_ids` and `include_stop_str_in_output`), `response_format`, which is a field of OpenAI's chat API, and
    gptzoo's own `processors`, `strategy` and `stop_tokens`.
    """

    defaults_of_empty: ClassVar[dict[str, dict[object, object]]] = {
        **SamplingFields.defaults_of_empty,
        "prompt": {None: ""},
        "suffix": {"": None},
        "logprobs": {False: None},
    }

    prompt: str | list[str] | list[int] | list[list[int]] = ""
    """One or several prompts, as text or as token ids. A text is read after BOS, if the tokenizer uses it, token ids
    as they are. An empty prompt starts a new text."""
    max_tokens: NonNegativeInt | None = 16
    """Maximum number of new tokens. null: as many as fit."""
    best_of: Annotated[int, Field(ge=1, le=128)] | None = None
    """Number of samples to generate. The `n` with the highest mean log-probability are returned. Default: n."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Number of top log-probabilities to return with each token. Default: no log-probabilities."""
    echo: bool | None = False
    """Return the prompt before the new text."""
    suffix: None = None
    """Not supported: a decoder-only model cannot be given the end of a text. "" counts as null."""

    @field_validator("prompt", mode="before")
    @classmethod
    def _check_prompt_type(cls, value: object) -> object:
        """Raise one error instead of one for each type that a prompt may have."""
        if isinstance(value, str) or (isinstance(value, list) and (_all(value, str) or _all(value, int))):
            return value
        if isinstance(value, list) and _all(value, list) and all(ids and _all(ids, int) for ids in value):
            return value
        raise option_error("should be a text, a list of texts, a list of token ids, or a list of such lists")

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the types of a prompt, which a validator checks."""
        reference = super().__get_pydantic_json_schema__(core_schema, handler)
        ids = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
        texts = {"type": "array", "items": {"type": "string"}, "minItems": 1}
        lists = {"type": "array", "items": ids, "minItems": 1}
        prompt = handler.resolve_ref_schema(reference)["properties"]["prompt"]
        prompt["anyOf"] = [{"type": ["string", "null"]}, texts, ids, lists]
        return reference

    @model_validator(mode="after")
    def _check(self) -> Self:
        errors = self.find_conflicts(self.max_tokens)
        if self.best_of is not None and self.best_of < self.n:
            errors.append(error_at(f"must be at least n, which is {self.n}", "best_of", value=self.best_of))
        if self.stream and self.best_of not in (None, self.n):
            errors.append(error_at("cannot be streamed, because all samples must be finished first", "best_of"))
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


def _all(values: list[Any], kind: type) -> bool:
    """Return True if the list is not empty, all values have one type, and no int is negative."""
    return bool(values) and all(type(value) is kind and (type(value) is not int or value >= 0) for value in values)


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

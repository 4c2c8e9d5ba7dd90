"""The request body of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, ValidationError, field_validator, model_validator

from gptzoo.serving.errors import RequestError
from gptzoo.serving.protocol import CompletionRequest
from gptzoo.serving.sampling_fields import SamplingFields
from gptzoo.strict_model import StrictModel, error_at, option_error

_NoTools = Annotated[list[dict[str, Any]], Field(max_length=0)]
_NO_TOOLS = "is not supported: gptzoo does not offer tools to a model or read its calls of them. Leave it out"


class TextPart(StrictModel):
    """A part of a message."""

    type: Literal["text"]
    """Type of the part. Images, audio and files are not supported."""
    text: str
    """The text."""


class ChatMessage(StrictModel):
    """A message of a chat. An answer of this endpoint can be sent back as one."""

    role: Annotated[str, Field(min_length=1)]
    """Role of the author, such as system, user or assistant. The chat template decides which roles there are."""
    content: str | list[TextPart]
    """The text, or its parts, which are joined by newlines."""
    type: Literal["text", "message"] | None = None
    """Accepted for compatibility. It has no effect."""
    name: str | None = None
    """Name of the author, for chat templates that use it."""
    reasoning_content: str | None = None
    """The reasoning before an answer, for chat templates that use it."""
    refusal: None = None
    """Always null. Answers have the field."""
    audio: None = None
    """Not supported."""
    annotations: _NoTools | None = None
    """Always null or empty."""
    function_call: None = None
    """Not supported."""
    tool_calls: _NoTools | None = None
    """Not supported: null or an empty list."""

    @field_validator("content", mode="before")
    @classmethod
    def _check_parts(cls, value: object) -> object:
        """Raise one error that names the type of a part, instead of one for each type that a content may have."""
        if not isinstance(value, str | list):
            raise option_error("should be a text or a list of text parts")
        for part in value if isinstance(value, list) else []:
            if not isinstance(part, dict) or part.get("type") != "text":
                kind = part.get("type") if isinstance(part, dict) else part
                raise option_error(f'has a part of type {str(kind)[:40]!r}. Only {{"type": "text"}} is supported')
        return value

    @field_validator("tool_calls", mode="before")
    @classmethod
    def _refuse_calls(cls, value: object) -> object:
        return _refuse(value, None, [])

    def values(self) -> dict[str, Any]:
        """Return the message as a chat template reads it."""
        content = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        fields = {"role": self.role, "content": content, "name": self.name, "reasoning_content": self.reasoning_content}
        return {name: value for name, value in fields.items() if value is not None}


class ChatRequest(SamplingFields):
    """The body of a chat request. Fields of OpenAI's API have the meaning that they have there.

    The extensions are those of completions, and vLLM's `chat_template_kwargs` and `add_generation_prompt`.
    """

    defaults_of_empty: ClassVar[dict[str, dict[object, object]]] = {
        **SamplingFields.defaults_of_empty,
        "logprobs": {None: False},
        "add_generation_prompt": {None: True},
    }

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    """The messages of the chat so far."""
    max_completion_tokens: NonNegativeInt | None = None
    """Maximum number of new tokens. Default: as many as fit."""
    max_tokens: NonNegativeInt | None = None
    """Older name of `max_completion_tokens`."""
    logprobs: bool = False
    """Return the log-probability of each token. Default: false."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Number of top log-probabilities to return with each token. Requires `logprobs`. Default: 0."""
    add_generation_prompt: bool = True
    """End the prompt with the beginning of the assistant's answer, as the chat template writes it. Default: true."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Further variables of the chat template, such as {"enable_thinking": false}."""
    tools: _NoTools | None = None
    """Not supported: null or an empty list."""
    tool_choice: Literal["none"] | None = None
    """Not supported: null or "none"."""

    @field_validator("tools", mode="before")
    @classmethod
    def _refuse_tools(cls, value: object) -> object:
        return _refuse(value, None, [])

    @field_validator("tool_choice", mode="before")
    @classmethod
    def _refuse_choice(cls, value: object) -> object:
        return _refuse(value, None, "none")

    @model_validator(mode="after")
    def _check(self) -> Self:
        errors = self.find_conflicts(self.length_limit)
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            errors.append(error_at("must be equal to max_completion_tokens if both are given", "max_tokens"))
        if self.top_logprobs and not self.logprobs:
            errors.append(error_at("requires logprobs", "top_logprobs"))
        if errors:
            raise ValidationError.from_exception_data("ChatRequest", errors)
        return self

    @property
    def length_limit(self) -> int | None:
        """The maximum number of new tokens. None: as many as fit."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def as_completion(self, prompt_ids: list[int]) -> CompletionRequest:
        """Return the request for a completion of the chat's prompt."""
        common = {name: getattr(self, name) for name in SamplingFields.model_fields if name in self.model_fields_set}
        return CompletionRequest.model_construct(
            **common,
            prompt=prompt_ids,
            max_tokens=self.length_limit,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )

    def rename_field(self, error: RequestError) -> RequestError:
        """Return the error of a completion with the name that its field has in a chat."""
        length = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        names = {"prompt": "messages", "max_tokens": length, "logprobs": "top_logprobs"}
        param = None if error.param is None else names.get(error.param, error.param)
        return RequestError(error.status, error.message, param=param, code=error.code)


def _refuse(value: object, *allowed: object) -> object:
    """Return a value of a field for tools, if it asks for nothing."""
    if value not in allowed:
        raise option_error(_NO_TOOLS)
    return value

"""Attention weights over HTTP: the form of `POST /attention`, and the computation on the thread of the model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Self

from pydantic import NonNegativeInt, ValidationError, field_validator, model_validator

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.components.multi_head_attention import Attention
from gptzoo.inspection.attention import attention_maps
from gptzoo.inspection.html_pages import attention_data
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.request import Request
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.serving.chat.request import ChatMessage
from gptzoo.serving.completion import as_request_error
from gptzoo.serving.errors import RequestError
from gptzoo.serving.request_builder import RequestBuilder
from gptzoo.serving.scheduler import QueuedRequest, Scheduler
from gptzoo.strict_model import StrictModel, error_at, option_error

MAX_WEIGHTS = 8_000_000
"""Maximum number of attention weights in one response, of about 2.7 bytes each."""


class AttentionRequest(StrictModel):
    """The body of `POST /attention`. It has either `prompt` or `messages`."""

    model: str | None = None
    """Name of the model, as /v1/models lists it. Required if the server has several models."""
    prompt: str | list[NonNegativeInt] | None = None
    """Text or token ids, as a completion reads them."""
    messages: list[ChatMessage] | None = None
    """Messages of a chat. After a message of another role, the prompt of an answer follows."""

    @field_validator("prompt", mode="before")
    @classmethod
    def _check_type(cls, value: object) -> object:
        """Raise one error instead of one for each type that a prompt may have."""
        is_ids = isinstance(value, list) and all(type(token) is int and token >= 0 for token in value)
        if not (value is None or isinstance(value, str) or is_ids):
            raise option_error("should be a text or a list of token ids")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.prompt is None) == (not self.messages):
            error = error_at("must be given unless messages are, and not together with them", "prompt")
            raise ValidationError.from_exception_data("AttentionRequest", [error])
        return self

    def prompt_ids(self, builder: RequestBuilder) -> list[int]:
        """Return the token ids of the text. Raises RequestError (400) if the model cannot read it."""
        if self.prompt is not None:
            return builder.encode(self.prompt)
        messages = self.messages or []
        return builder.encode_chat(messages, add_generation_prompt=messages[-1].role != "assistant")


class AttentionOfText:
    """The response to one request for attention weights. It lives on the event loop.

    Raises RequestError (400) for a text whose weights are too many for a response.
    """

    def __init__(self, loaded: LoadedModel, prompt_ids: Sequence[int]):
        _check_size(loaded, len(prompt_ids))
        self.loaded, self.prompt_ids = loaded, prompt_ids
        self.done = asyncio.Event()
        self.request_ids: list[int] = []
        self._data: dict[str, Any] = {}
        self._failure: RequestError | None = None

    def submit(self, scheduler: Scheduler) -> None:
        """Submit the computation to the scheduler. Raises RequestError (429) if its queue is full."""
        loop = asyncio.get_running_loop()
        request = Request(self.prompt_ids, SamplingSpec(max_new_tokens=0))
        queued = QueuedRequest(request, lambda event: loop.call_soon_threadsafe(self._end, event), search=self._compute)
        self.request_ids = scheduler.submit([queued])

    def response(self) -> dict[str, Any]:
        """Return the weights, once they are computed. Raises RequestError if that failed."""
        if self._failure is not None:
            raise self._failure
        return self._data

    def _compute(self) -> Iterator[list[TokenEvent]]:
        """Compute the weights, in the form of a search that finds an empty text."""
        self._data = attention_data(attention_maps(self.loaded, self.prompt_ids))
        yield []

    def _end(self, event: TokenEvent) -> None:
        if event.error is not None:
            self._failure = as_request_error(event.error)
        self.done.set()


def _check_size(loaded: LoadedModel, n_tokens: int) -> None:
    """Raise RequestError (400) for a text whose weights are too many, before they are computed."""
    n_layers = sum(isinstance(module, Attention) for module in loaded.model.modules())
    n_maps = max(1, n_layers * loaded.spec.dims.n_heads)
    if n_maps * n_tokens**2 > MAX_WEIGHTS:
        raise RequestError(
            400,
            f"the text has {n_tokens} tokens, and the attention of this model is returned for at most "
            f"{int((MAX_WEIGHTS / n_maps) ** 0.5)}: give a shorter text",
            param="prompt",
        )

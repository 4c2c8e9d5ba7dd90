"""The bodies of chat responses, as models from which the OpenAPI document is generated."""

from __future__ import annotations

from typing import Literal

from gptzoo.serving.responses import ResponseModel, Usage


class ChatTopLogProb(ResponseModel):
    """One of the most likely tokens."""

    token: str
    """Text of the token. A part of a character is `bytes:\\xc3`; the end-of-text token is empty."""
    logprob: float | None
    """Log-probability in nats, under the model itself. null for a probability of 0."""
    bytes: list[int]
    """UTF-8 bytes of the token."""


class ChatTokenLogProb(ChatTopLogProb):
    """The log-probability of one generated token."""

    top_logprobs: list[ChatTopLogProb]
    """The most likely tokens at this position, the most likely first."""


class ChatLogProbLists(ResponseModel):
    """Log-probabilities of the generated tokens."""

    content: list[ChatTokenLogProb]
    """One entry per token, also for the stop token that ends the text."""
    refusal: None
    """Always null."""


class AnswerMessage(ResponseModel):
    """The answer of the model."""

    role: Literal["assistant"]
    """Role of the author."""
    content: str
    """The text."""
    refusal: None
    """Always null."""


class ChatChoice(ResponseModel):
    """One answer."""

    index: int
    """Number of the answer."""
    message: AnswerMessage
    """The answer."""
    logprobs: ChatLogProbLists | None
    """Log-probabilities of the tokens. null without `logprobs`."""
    finish_reason: Literal["stop", "length"]
    """Why the text ends: "stop" for a stop token, a stop string or a processor that allows no further token."""


class AnswerDelta(ResponseModel):
    """The next piece of an answer. It is empty if only the reason for the end is new."""

    role: Literal["assistant"] | None = None
    """Role of the author, in the first piece of each answer."""
    content: str | None = None
    """The new text."""


class ChatChunkChoice(ResponseModel):
    """The next piece of one answer."""

    index: int
    """Number of the answer."""
    delta: AnswerDelta
    """The new piece."""
    logprobs: ChatLogProbLists | None
    """Log-probabilities of the new tokens. null without `logprobs`."""
    finish_reason: Literal["stop", "length"] | None
    """Why the text ends with this piece. null if it continues."""


class ChatResponse(ResponseModel):
    """The answers to a chat."""

    id: str
    """Identifier of the response."""
    object: Literal["chat.completion"]
    """Type of the response."""
    created: int
    """Time of the request, in seconds since 1970."""
    model: str
    """Name of the model."""
    choices: list[ChatChoice]
    """The answers."""
    usage: Usage
    """Number of tokens of all answers."""


class ChatChunk(ResponseModel):
    """The data of one event of a streamed chat response. After the last one, the data is `[DONE]`."""

    id: str
    """Identifier of the response, the same in all chunks."""
    object: Literal["chat.completion.chunk"]
    """Type of the response."""
    created: int
    """Time of the request, in seconds since 1970."""
    model: str
    """Name of the model."""
    choices: list[ChatChunkChoice]
    """The next piece of one answer. Empty in the last chunk if `stream_options.include_usage` is set."""
    usage: Usage | None = None
    """Absent without `stream_options.include_usage`. The last chunk has the number of tokens of all answers. Other
    chunks have null or, with `continuous_usage_stats`, the number of tokens of their answer so far."""

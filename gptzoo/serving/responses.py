"""The bodies of all responses, as models from which the OpenAPI document is generated."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class ResponseModel(BaseModel):
    """Base class of response bodies. All fields are always present, unless their description says otherwise."""

    model_config = ConfigDict(extra="forbid")


class Usage(ResponseModel):
    """Numbers of tokens."""

    prompt_tokens: int
    """Tokens of the prompts. A prompt with several samples counts once."""
    completion_tokens: int
    """Generated tokens, including stop tokens and the samples that `best_of` drops."""
    total_tokens: int
    """Sum of both."""


class LogProbLists(ResponseModel):
    """Log-probabilities: four lists with one entry per token."""

    tokens: list[str]
    """Text of each token. A part of a character is `bytes:\\xc3`; the end-of-text token is empty."""
    token_logprobs: list[float | None]
    """Log-probability of each token in nats, under the model itself. null for the first token of a text."""
    top_logprobs: list[dict[str, float | None] | None]
    """Log-probabilities of the most likely tokens and of the token itself, by text. null where there are none."""
    text_offset: list[int]
    """Index, in the choice's text, of the character that the token's first byte belongs to."""


class ChunkChoice(ResponseModel):
    """The next piece of one text."""

    index: int
    """Number of the text: number of the prompt times n, plus number of the sample."""
    text: str
    """The new piece."""
    logprobs: LogProbLists | None
    """Log-probabilities of the new tokens. null if the request has no `logprobs`."""
    finish_reason: Literal["stop", "length"] | None
    """Why the text ends with this piece. null if it continues."""


class Choice(ResponseModel):
    """One text."""

    index: int
    """Number of the text: number of the prompt times n, plus number of the sample."""
    text: str
    """The generated text, after the prompt if the request has `echo`."""
    logprobs: LogProbLists | None
    """Log-probabilities of the tokens. null if the request has no `logprobs`."""
    finish_reason: Literal["stop", "length"]
    """Why the text ends: "stop" for a stop token, a stop string or a processor that allows no further token."""


class CompletionResponse(ResponseModel):
    """The texts that a completion request asks for."""

    id: str
    """Identifier of the response."""
    object: Literal["text_completion"]
    """Type of the response."""
    created: int
    """Time of the request, in seconds since 1970."""
    model: str
    """Name of the model."""
    choices: list[Choice]
    """The texts, by prompt and sample."""
    usage: Usage
    """Number of tokens of all texts."""


class CompletionChunk(ResponseModel):
    """The data of one event of a streamed completion. After the last one, the data is `[DONE]`."""

    id: str
    """Identifier of the response, the same in all chunks."""
    object: Literal["text_completion"]
    """Type of the response."""
    created: int
    """Time of the request, in seconds since 1970."""
    model: str
    """Name of the model."""
    choices: list[ChunkChoice]
    """The next piece of one text. Empty in the last chunk if `stream_options.include_usage` is set."""
    usage: Usage | None = None
    """Absent without `stream_options.include_usage`. The last chunk has the number of tokens of all texts. Other chunks
    have null or, with `continuous_usage_stats`, the number of tokens of their text so far."""


class ModelCard(ResponseModel):
    """A model."""

    id: str
    """Name of the model."""
    object: Literal["model"]
    """Type of the object."""
    created: int
    """Start of the server, in seconds since 1970."""
    owned_by: str
    """Always "gptzoo"."""
    max_model_len: int
    """Maximum number of tokens of a prompt and its completion."""
    no_chat_reason: str | None
    """Reason why the model answers no chats, such as a missing chat template. null if it does."""


class ModelList(ResponseModel):
    """The models of the server."""

    object: Literal["list"]
    """Type of the object."""
    data: list[ModelCard]
    """The models."""


class Health(ResponseModel):
    """The state of a server that works."""

    status: Literal["ok"]
    """Always "ok"."""
    open: int
    """Number of texts that are waiting or running."""


class TokenizeResponse(ResponseModel):
    """The token ids of a prompt."""

    count: int
    """Number of tokens."""
    max_model_len: int
    """Maximum number of tokens of a prompt and its completion."""
    tokens: list[int]
    """Token ids."""
    token_strs: list[str] | None
    """Text of each token as in `logprobs.tokens`, if the request has `return_token_strs`."""


class DetokenizeResponse(ResponseModel):
    """The text of token ids."""

    prompt: str
    """The text. Bytes that are not valid UTF-8 are U+FFFD."""


class TokenizerInfo(ResponseModel):
    """The tokenizer, in the form of a tokenizer_config.json."""

    tokenizer_class: str
    """Name of gptzoo's tokenizer component."""
    vocab_size: int
    """Number of token ids."""
    model_max_length: int
    """Maximum number of tokens of a prompt and its completion."""
    eos_token: str | None
    """Name of the end-of-text token, which `/tokenize` accepts as a prompt. null if the tokenizer has none."""
    eos_token_id: int | None
    """Id of the end-of-text token."""
    bos_token: str | None
    """null: no text stands for the token that starts a text. `add_special_tokens` adds it. Under the prefix `/lm-eval`,
    the name of this token, which `/lm-eval/tokenize` accepts as a prompt."""
    bos_token_id: int | None
    """Id of the token that is read before each prompt. null if the tokenizer has none."""
    pad_token: None
    """Always null."""
    unk_token: None
    """Always null."""
    add_bos_token: bool
    """True if a token is read before each prompt."""
    chat_template: str | None
    """Jinja template of the chat endpoint. null if the model has none."""


class AttentionMapBody(ResponseModel):
    """The attention weights of one layer."""

    path: str
    """Path of the sublayer in the module tree, such as "blocks.0.attention"."""
    type: str
    """Name of the attention component."""
    numbers: list[int]
    """Numbers of the heads."""
    shape: list[int]
    """Numbers of heads, queries and keys."""
    scale: float
    """Factor for the integers in `data`: their products with it are the weights."""
    data: str
    """Weights in the order of `shape`, as base64 of little-endian 16-bit integers."""


class AttentionResponse(ResponseModel):
    """The attention weights of all layers and heads for one text."""

    tokens: list[str]
    """Printable text of each token."""
    maps: list[AttentionMapBody]
    """One entry for each layer that computes attention scores."""
    without_map: list[str]
    """Layers without attention scores, such as linear attention."""


class ErrorDetail(ResponseModel):
    """The error of a request or of the server."""

    message: str
    """Message that says what is wrong, where, and what to try."""
    type: Literal["invalid_request_error", "server_error"]
    """"invalid_request_error" for a status below 500."""
    param: str | None
    """Name of the wrong field."""
    code: str | None
    """Code of OpenAI's API, such as "context_length_exceeded"."""


class ErrorResponse(ResponseModel):
    """An error in the format of OpenAI's API. In a stream that has started, it is the data of the last event."""

    error: ErrorDetail
    """The error."""

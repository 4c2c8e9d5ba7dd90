"""The OpenAPI document of the server, generated from the models of requests and responses."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

import gptzoo
from gptzoo.serving import responses
from gptzoo.serving.chat.request import ChatRequest
from gptzoo.serving.chat.responses import ChatChunk, ChatResponse
from gptzoo.serving.playground.attention import AttentionRequest
from gptzoo.serving.protocol import CompletionRequest
from gptzoo.serving.tokenization import DetokenizeRequest, TokenizeRequest
from gptzoo.spec.schema import SchemaGenerator

_ERRORS = {
    400: "The request is invalid.",
    401: "The API key is missing or wrong.",
    404: "The server has no model of this name.",
    413: "The request body is longer than the limit of the server.",
    429: "The queue is full. Try again after the number of seconds in Retry-After.",
    500: "The request failed. Other requests are not affected.",
    503: "A model fails, or the server is shutting down. Try again after the number of seconds in Retry-After.",
}
_RETRY_STATUSES = (429, 503)


class _Operation(NamedTuple):
    """One method of a path."""

    path: str
    method: str
    id: str
    summary: str
    response: type[BaseModel]
    request: type[BaseModel] | None = None
    errors: tuple[int, ...] = (500,)
    chunk: type[BaseModel] | None = None
    is_public: bool = False
    query: tuple[str, str] | None = None  # name and description of an optional parameter


_OPERATIONS = (
    _Operation(
        "/v1/completions",
        "post",
        "createCompletion",
        "Generate texts after one or several prompts.",
        responses.CompletionResponse,
        CompletionRequest,
        (400, 404, 413, 429, 500, 503),
        responses.CompletionChunk,
    ),
    _Operation(
        "/v1/chat/completions",
        "post",
        "createChatCompletion",
        "Generate answers to a chat.",
        ChatResponse,
        ChatRequest,
        (400, 404, 413, 429, 500, 503),
        ChatChunk,
    ),
    _Operation("/v1/models", "get", "listModels", "List the models.", responses.ModelList),
    _Operation("/v1/models/{name}", "get", "getModel", "Describe a model.", responses.ModelCard, None, (404, 500)),
    _Operation(
        "/tokenize",
        "post",
        "tokenize",
        "Encode a prompt.",
        responses.TokenizeResponse,
        TokenizeRequest,
        (400, 404, 413, 500),
    ),
    _Operation(
        "/detokenize",
        "post",
        "detokenize",
        "Decode token ids.",
        responses.DetokenizeResponse,
        DetokenizeRequest,
        (400, 404, 413, 500),
    ),
    _Operation(
        "/tokenizer_info",
        "get",
        "getTokenizerInfo",
        "Describe the tokenizer.",
        responses.TokenizerInfo,
        None,
        (400, 404, 500),
        query=("model", "Name of the model. Required if the server has several models."),
    ),
    _Operation(
        "/attention",
        "post",
        "getAttention",
        "Compute the attention weights of all layers and heads for a text or a chat.",
        responses.AttentionResponse,
        AttentionRequest,
        (400, 404, 413, 429, 500, 503),
    ),
    _Operation(
        "/health",
        "get",
        "getHealth",
        "Check that all models work.",
        responses.Health,
        None,
        (500, 503),
        is_public=True,
    ),
)


def openapi_document(*, requires_key: bool) -> dict[str, Any]:
    """Return the document (OpenAPI 3.1). The logits processors of plugins that are loaded are part of it."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(responses.ErrorResponse, "serialization")]
    for operation in _OPERATIONS:
        models.append((operation.response, "serialization"))
        if operation.request is not None:
            models.append((operation.request, "validation"))
        if operation.chunk is not None:
            models.append((operation.chunk, "serialization"))
    _, definitions = models_json_schema(
        [*models],
        ref_template="#/components/schemas/{model}",
        schema_generator=SchemaGenerator,
    )
    paths: dict[str, Any] = {}
    for operation in _OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation_object(operation, requires_key)
    components: dict[str, Any] = {"schemas": definitions["$defs"]}
    if requires_key:
        components["securitySchemes"] = {"apiKey": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gptzoo",
            "version": gptzoo.__version__,
            "description": "OpenAI's completions and chat APIs with extensions of vLLM and gptzoo. "
            "Unknown fields are refused.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": components,
    }


def _operation_object(operation: _Operation, requires_key: bool) -> dict[str, Any]:
    needs_key = requires_key and not operation.is_public
    statuses = sorted({*operation.errors, *([401] if needs_key else [])})
    content: dict[str, Any] = {"application/json": {"schema": _reference(operation.response)}}
    if operation.chunk is not None:
        content["text/event-stream"] = {
            "schema": {
                "type": "string",
                "description": "Server-sent events, if the request has `stream`. The data of each event is a JSON "
                "object, and that of the last one is `[DONE]`.",
                "contentMediaType": "application/json",
                "contentSchema": {"anyOf": [_reference(operation.chunk), _reference(responses.ErrorResponse)]},
            }
        }
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": {
            "200": {"description": "Success.", "content": content},
            **{str(status): _error_object(status) for status in statuses},
        },
    }
    if operation.request is not None:
        schema = {"application/json": {"schema": _reference(operation.request)}}
        described["requestBody"] = {"required": True, "content": schema}
    if "{name}" in operation.path:
        in_path = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        described["parameters"] = [{**in_path, "description": "Name of the model."}]
    if operation.query is not None:
        name, description = operation.query
        described["parameters"] = [
            {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}
        ]
    if needs_key:
        described["security"] = [{"apiKey": []}]
    return described


def _error_object(status: int) -> dict[str, Any]:
    error = {
        "description": _ERRORS[status],
        "content": {"application/json": {"schema": _reference(responses.ErrorResponse)}},
    }
    if status in _RETRY_STATUSES:
        error["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return error


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}

"""The endpoints of the HTTP application."""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gptzoo.serving.chat.completion import ChatCompletion
from gptzoo.serving.chat.request import ChatRequest
from gptzoo.serving.completion import Completion
from gptzoo.serving.disconnect import run_while_connected
from gptzoo.serving.errors import RequestError
from gptzoo.serving.openapi import openapi_document
from gptzoo.serving.playground.attention import AttentionOfText, AttentionRequest
from gptzoo.serving.process.served_models import ServedModels
from gptzoo.serving.protocol import read_json, read_request
from gptzoo.serving.scheduler import Scheduler
from gptzoo.serving.tokenization import DetokenizeRequest, TokenizeRequest, detokenize, tokenize, tokenizer_info
from gptzoo.utils.json_text import to_json

_log = logging.getLogger(__name__)
INTERNAL_ERROR = RequestError(500, "internal server error. See the server's log.")
CLIENT_CLOSED_REQUEST = 499  # no client reads it
HARNESS_PREFIX = "/lm-eval"
"""The prefix of the routes for lm-evaluation-harness. Under it, texts are tokenized as the harness expects."""


class Endpoints:
    """The endpoints of a server.

    With `api_key`, all but /, /health and /openapi.json require it as the bearer token.
    """

    def __init__(self, models: ServedModels, api_key: str | None):
        self.models_by_name, self.api_key = models, api_key

    async def health(self, request: Request) -> Response:
        for model in self.models_by_name:
            if (failure := model.scheduler.failure) is not None:
                raise RequestError(503, f"the model {model.name!r} fails: {type(failure).__name__}: {failure}")
        return JSONResponse({"status": "ok", "open": sum(model.scheduler.n_open for model in self.models_by_name)})

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(self._openapi_document)

    @cached_property
    def _openapi_document(self) -> dict[str, Any]:
        return openapi_document(requires_key=self.api_key is not None)

    async def models(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse({"object": "list", "data": [model.card for model in self.models_by_name]})

    async def model(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse(self.models_by_name.find(request.path_params["name"]).card)

    async def completions(self, request: Request) -> Response:
        self._authenticate(request)
        body = read_request(await self._read_body(request))
        model = self.models_by_name.find(body.model)
        completion = Completion(body, model.builder.build(body), model.builder.tokenizer, model.name)
        return await _respond(completion, model.scheduler, request)

    async def chat_completions(self, request: Request) -> Response:
        self._authenticate(request)
        chat = read_json(ChatRequest, await self._read_body(request))
        model = self.models_by_name.find(chat.model)
        # In a thread, because the process that renders the template may be busy with another chat.
        prompt_ids = await run_in_threadpool(
            model.builder.encode_chat,
            chat.messages,
            add_generation_prompt=chat.add_generation_prompt,
            variables=chat.chat_template_kwargs,
        )
        body = chat.as_completion(prompt_ids)
        try:
            requests = model.builder.build(body)
        except RequestError as error:
            raise chat.rename_field(error) from None
        completion = ChatCompletion(body, requests, model.builder.tokenizer, model.name)
        return await _respond(completion, model.scheduler, request)

    async def attention(self, request: Request) -> Response:
        self._authenticate(request)
        body = read_json(AttentionRequest, await self._read_body(request))
        model = self.models_by_name.find(body.model)
        prompt_ids = await run_in_threadpool(body.prompt_ids, model.builder)
        return await _respond(AttentionOfText(model.builder.loaded, prompt_ids), model.scheduler, request)

    async def tokenize(self, request: Request) -> Response:
        self._authenticate(request)
        body = read_json(TokenizeRequest, await self._read_body(request))
        model = self.models_by_name.find(body.model)
        return JSONResponse(tokenize(model.builder, body, for_harness=_is_for_harness(request)))

    async def detokenize(self, request: Request) -> Response:
        self._authenticate(request)
        body = read_json(DetokenizeRequest, await self._read_body(request))
        return JSONResponse(detokenize(self.models_by_name.find(body.model).builder, body))

    async def tokenizer_info(self, request: Request) -> Response:
        self._authenticate(request)
        model = self.models_by_name.find(request.query_params.get("model"))
        return JSONResponse(tokenizer_info(model.builder, for_harness=_is_for_harness(request)))

    def _authenticate(self, request: Request) -> None:
        if self.api_key is None:
            return
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(key.encode(), self.api_key.encode()):
            raise RequestError(401, "the API key is missing or wrong", code="invalid_api_key")

    async def _read_body(self, request: Request) -> bytes:
        max_body = self.models_by_name.max_body
        too_long = RequestError(413, f"the request body is longer than {max_body} bytes")
        content_length = request.headers.get("content-length", "")
        if content_length.isdigit() and int(content_length) > max_body:
            raise too_long
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_body:
                    raise too_long
        except ClientDisconnect:
            raise RequestError(CLIENT_CLOSED_REQUEST, "the client disconnected before the end of the body") from None
        return bytes(body)


async def _respond(answer: Completion | AttentionOfText, scheduler: Scheduler, request: Request) -> Response:
    answer.submit(scheduler)
    if isinstance(answer, Completion) and answer.body.stream:
        return _EventStream(answer, scheduler)
    try:
        if await run_while_connected(answer.done.wait(), request.receive):
            return _JsonResponse(answer.response())
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    finally:
        scheduler.cancel(answer.request_ids)


def _is_for_harness(request: Request) -> bool:
    return request.url.path.startswith(HARNESS_PREFIX + "/")


class _EventStream(StreamingResponse):
    """The server-sent events of a completion: one per chunk, then [DONE].

    The requests are cancelled as soon as the client disconnects. Starlette alone notices it when it sends a chunk, and
    the next chunk may take long.
    """

    def __init__(self, completion: Completion, scheduler: Scheduler):
        super().__init__(_server_sent_events(completion), media_type="text/event-stream")
        self.completion, self.scheduler = completion, scheduler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with contextlib.suppress(OSError):  # some servers raise it if the client has disconnected
                await run_while_connected(self.stream_response(send), receive)
        finally:
            self.scheduler.cancel(self.completion.request_ids)


async def _server_sent_events(completion: Completion) -> AsyncIterator[str]:
    try:
        async for chunk in completion.stream():
            yield _server_sent_event(chunk)
        yield "data: [DONE]\n\n"
    except RequestError as error:  # the status line was sent already
        yield _server_sent_event(error.body)
    except Exception:
        _log.exception("a stream failed")
        yield _server_sent_event(INTERNAL_ERROR.body)


def _server_sent_event(data: object) -> str:
    return f"data: {to_json(data, ensure_ascii=False)}\n\n"


class _JsonResponse(JSONResponse):
    """A JSON response with null in place of NaN and infinite numbers."""

    def render(self, content: object) -> bytes:
        return to_json(content, ensure_ascii=False).encode("utf-8")

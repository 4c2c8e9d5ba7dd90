"""The HTTP application: routes, authentication, limits, and errors in OpenAI's format."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gptzoo.serving.completion import Completion
from gptzoo.serving.errors import RequestError
from gptzoo.serving.protocol import read_request
from gptzoo.serving.request_builder import RequestBuilder
from gptzoo.serving.scheduler import Scheduler
from gptzoo.utils.json_text import to_json

_log = logging.getLogger(__name__)
_INTERNAL_ERROR = RequestError(500, "internal server error. See the server's log.")
_DISCONNECT_POLL_SECONDS = 0.5


def make_app(scheduler: Scheduler, builder: RequestBuilder, *, name: str, api_key: str | None = None) -> Starlette:
    """Return the ASGI application that serves the scheduler's model under `name`.

    With `api_key`, requests that do not have it as their bearer token get status 401.
    """
    service = _Service(scheduler, builder, name, api_key)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with scheduler:
            yield

    routes = [
        Route("/health", service.health),
        Route("/v1/models", service.models),
        Route("/v1/models/{name:path}", service.model),
        Route("/v1/completions", service.completions, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {
        RequestError: _on_request_error,
        HTTPException: _on_http_exception,
        Exception: _on_exception,
    }
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


class _Service:
    """The endpoints."""

    def __init__(self, scheduler: Scheduler, builder: RequestBuilder, name: str, api_key: str | None):
        self.scheduler, self.builder, self.name, self.api_key = scheduler, builder, name, api_key
        self.card = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "gptzoo"}

    async def health(self, request: Request) -> Response:
        if (failure := self.scheduler.failure) is not None:
            raise RequestError(503, f"the model fails: {type(failure).__name__}: {failure}")
        return JSONResponse({"status": "ok", "open": self.scheduler.n_open})

    async def models(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse({"object": "list", "data": [self.card]})

    async def model(self, request: Request) -> Response:
        self._authenticate(request)
        self._check_model_name(request.path_params["name"])
        return JSONResponse(self.card)

    async def completions(self, request: Request) -> Response:
        self._authenticate(request)
        body = read_request(await self._read_body(request))
        self._check_model_name(body.model)
        completion = Completion(body, self.builder.build(body), self.builder.tokenizer, self.name)
        completion.submit(self.scheduler)
        if body.stream:
            return StreamingResponse(self._server_sent_events(completion), media_type="text/event-stream")
        return await self._response(completion, request)

    async def _response(self, completion: Completion, request: Request) -> Response:
        """Return the complete response. Cancel the request if the client disconnects."""
        try:
            while not completion.done.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_DISCONNECT_POLL_SECONDS):
                        await completion.done.wait()
                if not completion.done.is_set() and await request.is_disconnected():
                    return Response(status_code=499)  # the client has disconnected
            return _JsonResponse(completion.response())
        finally:
            self.scheduler.cancel(completion.request_ids)

    async def _server_sent_events(self, completion: Completion) -> AsyncIterator[str]:
        """Yield one server-sent event per chunk, then [DONE]."""
        try:
            async for chunk in completion.stream():
                yield _server_sent_event(chunk)
            yield "data: [DONE]\n\n"
        except RequestError as error:  # the status line was sent already
            yield _server_sent_event(error.body)
        except Exception:
            _log.exception("a stream failed")
            yield _server_sent_event(_INTERNAL_ERROR.body)
        finally:
            self.scheduler.cancel(completion.request_ids)

    def _authenticate(self, request: Request) -> None:
        if self.api_key is None:
            return
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(key.encode(), self.api_key.encode()):
            raise RequestError(401, "the API key is missing or wrong", code="invalid_api_key")

    def _check_model_name(self, name: str) -> None:
        if name != self.name:
            raise RequestError(
                404, f"no model {name!r}; this server has {self.name!r}", param="model", code="model_not_found"
            )

    async def _read_body(self, request: Request) -> bytes:
        max_body = self.builder.limits.max_body
        too_long = RequestError(413, f"the request body is longer than {max_body} bytes")
        content_length = request.headers.get("content-length", "")
        if content_length.isdigit() and int(content_length) > max_body:
            raise too_long
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_body:
                raise too_long
        return bytes(body)


def _server_sent_event(data: Any) -> str:  # noqa: ANN401  any JSON value
    return f"data: {to_json(data, ensure_ascii=False)}\n\n"


class _JsonResponse(JSONResponse):
    """A JSON response with null in place of NaN and infinite numbers."""

    def render(self, content: Any) -> bytes:  # noqa: ANN401  any JSON value
        return to_json(content, ensure_ascii=False).encode("utf-8")


def _error_response(error: RequestError) -> Response:
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _error_response(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    response = _error_response(RequestError(error.status_code, message))
    response.headers.update(error.headers or {})  # a 405 has Allow
    return response


async def _on_exception(request: Request, error: Exception) -> Response:
    return _error_response(_INTERNAL_ERROR)

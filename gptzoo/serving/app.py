"""The HTTP side: routes, limits, and errors in the shape that the clients expect."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
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
from gptzoo.serving.jobs import Jobs
from gptzoo.serving.protocol import read_request
from gptzoo.serving.worker import Worker

_LOOK_FOR_CLIENT = 0.5  # seconds between two looks at whether it is still there


def make_app(worker: Worker, jobs: Jobs, *, name: str, api_key: str | None = None) -> Starlette:
    """The ASGI application that answers for the worker's model under `name`.

    With `api_key`, requests without it as their bearer token get 401.
    """
    service = _Service(worker, jobs, name, api_key)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with worker:
            yield

    routes = [
        Route("/health", service.health),
        Route("/v1/models", service.models),
        Route("/v1/models/{name:path}", service.model),
        Route("/v1/completions", service.completions, methods=["POST"]),
    ]
    handlers: dict[Any, Any] = {RequestError: _refuse, HTTPException: _refuse_route, Exception: _fail}
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


class _Service:
    def __init__(self, worker: Worker, jobs: Jobs, name: str, api_key: str | None):
        self.worker, self.jobs, self.name, self.api_key = worker, jobs, name, api_key
        self.card = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "gptzoo"}

    async def health(self, request: Request) -> Response:
        if self.worker.failure is not None:
            raise RequestError(503, f"the model's thread has ended: {self.worker.failure}")
        return JSONResponse({"status": "ok", "open": self.worker.n_open})

    async def models(self, request: Request) -> Response:
        self._admit(request)
        return JSONResponse({"object": "list", "data": [self.card]})

    async def model(self, request: Request) -> Response:
        self._admit(request)
        self._check_name(request.path_params["name"])
        return JSONResponse(self.card)

    async def completions(self, request: Request) -> Response:
        self._admit(request)
        asked = read_request(await self._body(request))
        self._check_name(asked.model)
        completion = Completion(asked, self.jobs.of(asked), self.jobs.tokenizer, self.name)
        completion.submit(self.worker)
        if asked.stream:
            return StreamingResponse(self._events(completion), media_type="text/event-stream")
        return await self._whole(completion, request)

    async def _whole(self, completion: Completion, request: Request) -> Response:
        """The answer at once; given up when the client goes away."""
        try:
            while not completion.done.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_FOR_CLIENT):
                        await completion.done.wait()
                if not completion.done.is_set() and await request.is_disconnected():
                    return Response(status_code=499)  # which nobody reads
            return JSONResponse(completion.answer())
        finally:
            self.worker.cancel(completion.numbers)

    async def _events(self, completion: Completion) -> AsyncIterator[str]:
        """Server-sent events: a piece each, and [DONE]."""
        try:
            async for piece in completion.stream():
                yield f"data: {json.dumps(piece, ensure_ascii=False)}\n\n"
            yield "data: [DONE]\n\n"
        except RequestError as error:  # the status has gone out already
            yield f"data: {json.dumps(error.body, ensure_ascii=False)}\n\n"
        finally:
            self.worker.cancel(completion.numbers)

    def _admit(self, request: Request) -> None:
        if self.api_key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self.api_key.encode()):
            raise RequestError(401, "this server asks for an API key, and yours is not it", code="invalid_api_key")

    def _check_name(self, name: str) -> None:
        if name != self.name:
            raise RequestError(
                404, f"no model {name!r} here; this server has {self.name!r}", param="model", code="model_not_found"
            )

    async def _body(self, request: Request) -> bytes:
        too_long = RequestError(413, f"the body is longer than the {self.jobs.limits.max_body} bytes that are read")
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self.jobs.limits.max_body:
            raise too_long
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self.jobs.limits.max_body:
                raise too_long
        return bytes(body)


def _answer(error: RequestError) -> Response:
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _answer(error)


async def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(RequestError(error.status_code, f"{request.method} {request.url.path}: {error.detail}"))


async def _fail(request: Request, error: Exception) -> Response:
    return _answer(RequestError(500, "something is wrong with this server; its log says what"))

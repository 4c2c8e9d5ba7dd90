"""The HTTP application: routes, errors in OpenAI's format, and cross-origin requests."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gptzoo.errors import InputError
from gptzoo.serving.endpoints import HARNESS_PREFIX, INTERNAL_ERROR, Endpoints
from gptzoo.serving.errors import RequestError
from gptzoo.serving.playground.page import playground
from gptzoo.serving.process.served_models import ServedModel, ServedModels


def make_app(
    models: Sequence[ServedModel],
    *,
    api_key: str | None = None,
    allowed_origins: Sequence[str] = (),
) -> ASGIApp:
    """Return the ASGI application that serves the models, each under its name.

    api_key: requests that do not have it as their bearer token get status 401.
    allowed_origins: origins of web pages that may call the server, such as "https://example.org", or "*" for all. By
    default the responses have no CORS headers, so browsers refuse calls from pages of other origins. Raises InputError
    for a text that is not an origin, and for two models with one name.
    """
    check_origins(allowed_origins)
    served = ServedModels(models)
    endpoints = Endpoints(served, api_key)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with served.running():
            yield

    routes = [
        Route("/", playground),
        Route("/health", endpoints.health),
        Route("/openapi.json", endpoints.openapi),
        Route("/v1/models", endpoints.models),
        Route("/v1/models/{name:path}", endpoints.model),
        Route("/v1/completions", endpoints.completions, methods=["POST"]),
        Route("/v1/chat/completions", endpoints.chat_completions, methods=["POST"]),
        Route("/tokenize", endpoints.tokenize, methods=["POST"]),
        Route("/detokenize", endpoints.detokenize, methods=["POST"]),
        Route("/tokenizer_info", endpoints.tokenizer_info),
        Route("/attention", endpoints.attention, methods=["POST"]),
        Route(HARNESS_PREFIX + "/v1/completions", endpoints.completions, methods=["POST"]),
        Route(HARNESS_PREFIX + "/tokenize", endpoints.tokenize, methods=["POST"]),
        Route(HARNESS_PREFIX + "/detokenize", endpoints.detokenize, methods=["POST"]),
        Route(HARNESS_PREFIX + "/tokenizer_info", endpoints.tokenizer_info),
    ]
    handlers: dict[Any, Any] = {
        RequestError: _on_request_error,
        HTTPException: _on_http_exception,
        Exception: _on_exception,
    }
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    if not allowed_origins:
        return app
    # Around the whole application, so that the responses of failures have the headers, too.
    return CORSMiddleware(
        app,
        allow_origins=allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["Retry-After"],
    )


def check_origins(origins: Sequence[str]) -> None:
    """Raise InputError for a text that is not "*" or the origin of a web page as browsers send it."""
    for origin in origins:
        if origin in ("*", "null"):
            continue
        try:
            parts = urlsplit(origin)
            normal = f"{parts.scheme}://{parts.netloc}".lower()
            is_origin = bool(parts.scheme and parts.hostname) and parts.port != {"http": 80, "https": 443}.get(
                parts.scheme, 0
            )
        except ValueError:  # a port that is not a number
            is_origin, normal = False, ""
        if not is_origin or origin != normal or "@" in origin:
            raise InputError(
                f"{origin!r} is not an origin. Give * or an origin as browsers send it: scheme and host in lower case, "
                "and the port unless it is the default, such as http://localhost:3000, without a path."
            )


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
    return _error_response(INTERNAL_ERROR)

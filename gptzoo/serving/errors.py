"""What went wrong with a request, in the shape that OpenAI's clients look for."""

from __future__ import annotations

from typing import Any


class RequestError(Exception):
    """A request that is not answered with a completion; `body` is what the client gets instead."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Clients that wait and try again are told how long."""
        return {"Retry-After": "1"} if self.status in (429, 503) else {}

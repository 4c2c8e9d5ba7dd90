"""`RequestError`: an error response in the format of OpenAI's API."""

from __future__ import annotations

from typing import Any


class RequestError(Exception):
    """A request that gets an error response instead of a completion."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the response."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response. Clients that retry look at Retry-After, in seconds."""
        return {"Retry-After": "1"} if self.status in (429, 503) else {}

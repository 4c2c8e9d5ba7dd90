"""The HTTP server process: it listens, prints its address with an example request, and runs until Ctrl-C."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import shlex
import sys
from collections.abc import Callable
from socket import socket

import uvicorn
from starlette.types import ASGIApp

_STARTUP_FAILURE = 3  # uvicorn's exit code if it cannot listen


def run_server(app: ASGIApp, *, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve an application until Ctrl-C. `announce` gets the URL as soon as the server listens.

    port: 0 for any free port.
    """
    server = _Server(uvicorn.Config(app, host=host, port=port, log_level="info", access_log=False), announce)
    with contextlib.suppress(KeyboardInterrupt):  # the server has ended in order, and raises the signal again
        server.run()
    if not server.started:
        sys.exit(_STARTUP_FAILURE)


class _Server(uvicorn.Server):
    """A server that announces its URL."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[str], None]):
        super().__init__(config)
        self.announce = announce

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            self.announce(server_url(self.config.host, port))


def server_url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server that listens on an address."""
    with contextlib.suppress(ValueError):  # a name such as localhost
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def example_request(url: str, model: str, *, key_variable: str | None) -> str:
    """Return a shell command that completes a text.

    key_variable: the environment variable with the API key, if the server requires one.
    """
    body = json.dumps({"model": model, "prompt": "Once", "max_tokens": 30})
    key = "" if key_variable is None else f' -H "Authorization: Bearer ${key_variable}"'
    return f"curl {url}/v1/completions -H 'Content-Type: application/json'{key} -d {shlex.quote(body)}"

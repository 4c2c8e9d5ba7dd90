"""The HTTP server process: it listens, prints its address with an example request, and runs until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import shlex
from collections.abc import Callable
from socket import gaierror, socket

import uvicorn
from starlette.types import ASGIApp

from gptzoo.errors import GptzooError, InputError


def check_address(host: str, port: int) -> None:
    """Raise InputError if a server cannot listen on an address, for example because another program does."""

    async def listen() -> None:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port)
        server.close()

    try:
        asyncio.run(listen())
    except gaierror as error:
        raise InputError(f"--host {host}: {error.strerror}") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(
            f"cannot listen on {host}, port {port}: {reason}. Choose another --port (0: any free one) or --host"
        ) from None


def run_server(app: ASGIApp, *, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve an application until Ctrl-C. `announce` gets the URL as soon as the server listens.

    port: 0 for any free port.

    Raises GptzooError if the server does not start.
    """
    server = _Server(uvicorn.Config(app, host=host, port=port, log_level="info", access_log=False), announce)
    # A KeyboardInterrupt is the signal that has ended the server in order, raised again. SystemExit is a failed start.
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        server.run()
    if not server.started:
        raise GptzooError("the server did not start. The lines above say why.")


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

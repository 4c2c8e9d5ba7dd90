"""The playground: the page at the root of `gptzoo serve`, on which its models are tried in a browser."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gptzoo.inspection.html_pages import page_style, view_script

_SCRIPTS = ("server.js", "tokens.js", "column.js", "playground.js")


async def playground(request: Request) -> Response:
    """Return the page. It needs no API key: the page asks for the key and sends it with its own requests."""
    page, policy = _page()
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(page, headers=headers)


@cache
def _page() -> tuple[str, str]:
    """Return the page, which is one file, and its content security policy.

    The policy allows this script and this style sheet by their hashes, and connections to this server. A script that a
    model writes would not run even if the page did not escape it.
    """
    script = view_script("attention") + "\n".join(map(_asset, _SCRIPTS))
    style = page_style() + _asset("playground.css")
    page = _asset("playground.html").replace("/* STYLE */", style).replace("/* SCRIPT */", script)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode("ascii")


def _asset(name: str) -> str:
    return resources.files("gptzoo.serving.playground").joinpath("assets", name).read_text(encoding="utf-8")

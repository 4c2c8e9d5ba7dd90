"""Cross-origin requests of web pages: refused by default, and allowed for the origins that an option names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from serving.test_isolation import fail_if

from gptzoo.cli import main
from gptzoo.errors import InputError
from gptzoo.serving.app import check_origins

PAGE = "https://page.example"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, x-stainless-lang",  # those of OpenAI's client
}
BODY = {"model": "tiny", "prompt": "Once", "max_tokens": 3}


def cors_headers(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


def test_by_default_no_response_has_cors_headers(plain: Any) -> None:
    preflight = httpx.options(plain.url + "/v1/completions", headers=PREFLIGHT)
    assert (preflight.status_code, preflight.headers["allow"]) == (405, "POST")
    answer = httpx.post(plain.url + "/v1/completions", json=BODY, headers={"Origin": PAGE})
    assert answer.status_code == 200
    assert cors_headers(preflight) == cors_headers(answer) == {}


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [([PAGE], PAGE), (["http://localhost:3000", PAGE], PAGE), (["*"], "*")],
)
def test_an_allowed_page_can_call_the_server(serve: Any, allowed: list[str], expected: str) -> None:
    running = serve(allowed_origins=allowed, api_key="sesame")
    url = running.url + "/v1/completions"
    preflight = httpx.options(url, headers=PREFLIGHT)
    headers = cors_headers(preflight)
    assert preflight.status_code == 200
    assert headers["access-control-allow-origin"] == expected
    assert "POST" in headers["access-control-allow-methods"]
    allowed_headers = {name.strip().lower() for name in headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type", "x-stainless-lang"} <= allowed_headers
    assert "access-control-allow-credentials" not in headers

    call = {"Origin": PAGE, "Authorization": "Bearer sesame"}
    answers = {
        200: httpx.post(url, json=BODY, headers=call),
        400: httpx.post(url, json={**BODY, "n": 0}, headers=call),
        401: httpx.post(url, json=BODY, headers={"Origin": PAGE}),
        404: httpx.get(running.url + "/absent", headers=call),
        405: httpx.get(url, headers=call),
    }
    for status, answer in answers.items():
        assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (status, expected)
    with httpx.stream("POST", url, json={**BODY, "stream": True}, headers=call) as stream:
        assert stream.headers["access-control-allow-origin"] == expected
        assert stream.read().endswith(b"data: [DONE]\n\n")


def test_another_page_cannot_call_the_server(serve: Any) -> None:
    running = serve(allowed_origins=["http://localhost:3000"])
    preflight = httpx.options(running.url + "/v1/completions", headers=PREFLIGHT)
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers
    answer = httpx.post(running.url + "/v1/completions", json=BODY, headers={"Origin": PAGE})
    assert "access-control-allow-origin" not in answer.headers
    assert "origin" in answer.headers["vary"].lower()


def test_a_page_can_read_the_error_of_a_failure(serve: Any, loaded: Any) -> None:
    running = serve(fail_if(loaded, lambda tokens: (tokens == ord("~")).any()), allowed_origins=[PAGE])
    answer = httpx.post(running.url + "/v1/completions", json={**BODY, "prompt": "a~"}, headers={"Origin": PAGE})
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.json()["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    "text",
    [
        "localhost:3000",
        "page.example",
        "https://page.example/",
        "https://page.example/path",
        "https://*.page.example:port",
        "https://Page.example",
        "https://page.example:443",
        "http://page.example:80",
        "https://user@page.example",
        "",
    ],
)
def test_a_text_that_no_browser_sends_as_an_origin_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not an origin"):
        check_origins([PAGE, text])
    result = CliRunner().invoke(main, ["serve", "absent", "--allow-origin", text])
    assert result.exit_code == 2
    assert "is not an origin. Give * or an origin as browsers send it" in result.output


def test_origins_that_browsers_send_are_accepted() -> None:
    check_origins([PAGE, "*", "null", "http://localhost:3000", "http://127.0.0.1", "http://[::1]:8080", "app://id"])


def test_the_option_reaches_the_server(monkeypatch: pytest.MonkeyPatch, loaded: Any, tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from gptzoo.checkpoint.model_folder import save_model

    save_model(tmp_path / "tiny", loaded.model, loaded.tokenizer)
    apps: list[Any] = []
    monkeypatch.setattr("gptzoo.serving.process.run_server.run_server", lambda app, **_: apps.append(app))
    options = ["--allow-origin", "http://localhost:3000", "--allow-origin", PAGE]
    result = CliRunner().invoke(main, ["serve", str(tmp_path / "tiny"), "--port", "0", *options])
    assert result.exit_code == 0, result.output
    with TestClient(apps[0]) as client:
        answer = client.post("/v1/completions", content=json.dumps(BODY), headers={"Origin": PAGE})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)

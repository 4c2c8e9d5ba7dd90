"""Schemas in the JSON language server of VS Code: hover, completion and errors explain components."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from gptzoo import registry
from gptzoo.spec.schema import model_schema

SERVER = shutil.which("vscode-json-language-server")
URI = "file:///specs/model.json"
TEXT = """{
  "context_length": 64, "d_model": 32, "n_layers": 2, "n_heads": 4,
  "attention": {"type": "sdpa", "window": 16},
  "positional": "rope",
  "norm": ""
}
"""

pytestmark = pytest.mark.skipif(
    SERVER is None, reason="needs vscode-json-language-server (npm: vscode-langservers-extracted)"
)


class LanguageServer:
    """A client of the language server protocol with one open document."""

    def __init__(self, schema: dict[str, Any]):
        assert SERVER is not None
        self.process = subprocess.Popen([SERVER, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.n_requests = 0
        markdown = ["markdown", "plaintext"]
        document = {
            "hover": {"contentFormat": markdown},
            "completion": {"completionItem": {"documentationFormat": markdown, "snippetSupport": True}},
            "publishDiagnostics": {},
        }
        self.request("initialize", processId=None, rootUri=None, capabilities={"textDocument": document})
        self.notify("initialized")
        settings = {
            "schemas": [{"fileMatch": ["*.json"], "url": "gptzoo://model", "schema": schema}],
            "validate": {"enable": True},
        }
        self.notify("workspace/didChangeConfiguration", settings={"json": settings})

    def open(self, text: str) -> None:
        self.text = text
        self.notify("textDocument/didOpen", textDocument={"uri": URI, "languageId": "json", "version": 1, "text": text})

    def hover(self, word: str) -> str:
        """Return the text of the hover over a word of the document."""
        parameters = {"textDocument": {"uri": URI}, "position": self._position(word, 2)}
        contents = self.request("textDocument/hover", **parameters)["contents"]
        texts = contents if isinstance(contents, list) else [contents]
        markdown = "\n".join(text if isinstance(text, str) else text["value"] for text in texts)
        return re.sub(r"\\(\W)", r"\1", markdown)  # punctuation is escaped

    def completions(self, before: str) -> dict[str, str]:
        """Return the label and the documentation of each completion at the end of a text of the document."""
        answer = self.request(
            "textDocument/completion", textDocument={"uri": URI}, position=self._position(before, len(before))
        )
        found = {}
        for item in answer["items"]:
            documentation = item.get("documentation", "")
            found[item["label"].strip('"')] = (
                documentation if isinstance(documentation, str) else documentation["value"]
            )
        return found

    def _position(self, word: str, offset: int) -> dict[str, int]:
        lines = self.text[: self.text.index(word) + offset].split("\n")
        return {"line": len(lines) - 1, "character": len(lines[-1])}

    def request(self, method: str, **params: Any) -> Any:
        self.n_requests += 1
        self._send(id=self.n_requests, method=method, params=params)
        while True:
            message = self._receive()
            if message.get("id") == self.n_requests and "method" not in message:
                return message["result"]

    def notify(self, method: str, **params: Any) -> None:
        self._send(method=method, params=params)

    def diagnostics(self) -> list[str]:
        """Return the errors of the document, when the server sends them."""
        while True:
            message = self._receive()
            if message.get("method") == "textDocument/publishDiagnostics":
                return [each["message"] for each in message["params"]["diagnostics"]]

    def _send(self, **message: Any) -> None:
        assert self.process.stdin is not None
        content = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(content), content))
        self.process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        length = 0
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        message: dict[str, Any] = json.loads(self.process.stdout.read(length))
        return message

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def server() -> Iterator[LanguageServer]:
    with registry.use(registry.discover(selection="none")):
        server = LanguageServer(model_schema())
    yield server
    server.close()


def test_hover_explains_fields_names_and_options(server: LanguageServer) -> None:
    server.open(TEXT)
    assert "Width of the residual stream." in server.hover('"d_model"')
    assert "Rotary position embedding" in server.hover('"rope"')
    assert "Size of the sliding window in tokens" in server.hover('"window"')
    assert "Name of the attention component." in server.hover('"sdpa"')


def test_completion_lists_components_with_their_descriptions(server: LanguageServer) -> None:
    server.open(TEXT)
    offered = server.completions('"norm": "')
    assert offered["pre_ln"].startswith(registry.current().get("norm", "pre_ln").__doc__.partition("\n")[0])
    assert "post_ln" in offered


def test_an_unknown_name_is_an_error_and_a_valid_spec_has_none(server: LanguageServer) -> None:
    server.open(TEXT)
    assert any("pre_ln" in message for message in server.diagnostics())
    other = TEXT.replace('"norm": ""', '"norm": {"type": "pre_ln", "layer": "rmsnorm"}')
    server.notify("textDocument/didChange", textDocument={"uri": URI, "version": 2}, contentChanges=[{"text": other}])
    assert server.diagnostics() == []

"""Commands that need the Hugging Face Hub, without a network: one attempt, and a message that says what to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer

import pytest
from click.testing import CliRunner
from hub_server import TOKEN, HubServer

import gptzoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.errors import HubError
from gptzoo.hub.repository import HubFile, HubRepository

constants = pytest.importorskip("huggingface_hub.constants")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE = HubFile("a.txt", 3, None)


class Refusing(TCPServer):
    """A server that closes every connection without an answer, and counts them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BaseRequestHandler)
        self.attempts = 0

    def verify_request(self, request: object, client_address: object) -> bool:
        self.attempts += 1
        return False


@pytest.fixture
def refusing(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    """A refusing server in the place of the hub."""
    with Refusing() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
        server.shutdown()


@pytest.mark.parametrize("revision", ["main", COMMIT])
@pytest.mark.parametrize("command", ["import-hf", "pull"])
def test_a_download_is_tried_once(refusing: Refusing, tmp_path: Path, command: str, revision: str) -> None:
    result = CliRunner().invoke(main, [command, "org/tiny", str(tmp_path / "out"), "--revision", revision])
    assert result.exit_code == 2, result.output
    assert f"org/tiny: cannot reach {constants.ENDPOINT}" in result.output
    assert "where there is a network" in result.output
    assert refusing.attempts == 1
    assert not (tmp_path / "out").exists()


def test_a_push_is_tried_once(refusing: Refusing, tmp_path: Path) -> None:
    spec = {"vocab_size": 11, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 2}
    save_model(tmp_path / "model", gptzoo.build(spec))
    result = CliRunner().invoke(main, ["push", str(tmp_path / "model"), "ada/tiny"])
    assert result.exit_code == 2, result.output
    assert "Nothing was pushed; push again where there is a network" in result.output
    assert refusing.attempts == 1


@pytest.mark.parametrize("call", ["list_files", "download", "open_stream"])
def test_each_call_of_a_corpus_is_tried_once(refusing: Refusing, call: str) -> None:
    repository = HubRepository("org/tiny", "dataset", COMMIT, "Copy the folder")
    with pytest.raises(HubError, match=r"cannot reach .*Copy the folder"):
        getattr(repository, call)(*([] if call == "list_files" else [FILE]))
    assert refusing.attempts == 1


def test_a_hub_that_answers_is_asked_only_once_if_it_is_there(hub: HubServer) -> None:
    commit = hub.add("org/tiny", {"a.txt": "abc", "b.txt": "de"})
    repository = HubRepository("org/tiny", "model", commit)
    assert [repository.download(file).read_text() for file in repository.list_files()] == ["abc", "de"]
    assert hub.requests.count("HEAD /") == 1

"""`gptzoo serve` on the command line."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support import with_large_weights

import gptzoo as zoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.bpe import BpeTokenizer
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.data.tokenizers.special_tokens import SpecialTokens, add_special_tokens
from gptzoo.errors import GptzooError
from gptzoo.reference import Reference
from gptzoo.serving.process.run_server import example_request, run_server, server_url

FREE_PORT = ("--port", "0")
SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 1, "n_heads": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "small-stories"
    save_model(folder, with_large_weights(zoo.build(SPEC)), ByteTokenizer(ByteTokenizer.Config()))
    return folder


def test_it_prints_its_address_and_serves_the_model_under_the_name_of_its_folder_until_ctrl_c(model: Path) -> None:
    command = [sys.executable, "-m", "gptzoo", "serve", str(model), "--port", "0"]
    environment = {**os.environ, "GPTZOO_API_KEY": "k"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = re.match(r"small-stories at (http://127\.0\.0\.1:\d+)/v1; to try it, open (http://\S+)/ or run$", line)
        assert url is not None, line
        assert url[1] == url[2]
        example = process.stdout.readline().strip()
        assert '"Authorization: Bearer $GPTZOO_API_KEY"' in example
        if shutil.which("curl"):
            answer = subprocess.run(["sh", "-c", example], check=True, stdout=pipe, text=True, env=environment).stdout
            assert json.loads(answer)["model"] == "small-stories"
        with openai.OpenAI(base_url=f"{url[1]}/v1", api_key="k", max_retries=0) as client:
            answer = client.completions.create(model="small-stories", prompt="Once", max_tokens=5, temperature=0)
            assert answer.usage is not None
            assert answer.usage.completion_tokens == 5
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, -signal.SIGINT, 130)
    finally:
        process.kill()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8"])
def test_every_weight_format_can_be_served_with_and_without_a_draft_model(
    model: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps: list[Any] = []
    monkeypatch.setattr("gptzoo.serving.process.run_server.run_server", lambda app, **_: apps.append(app))
    result = CliRunner().invoke(main, ["serve", *FREE_PORT, str(model), "--draft", str(model), "--dtype", dtype])
    assert result.exit_code == 0, result.output
    request = {"model": "small-stories", "prompt": "Once", "max_tokens": 5, "temperature": 0, "logprobs": 1}
    with TestClient(apps[0]) as client:
        plain = client.post("/v1/completions", json=request)
        drafted = client.post("/v1/completions", json={**request, "strategy": {"type": "speculative"}})
    options = ["--prompt", "Once", "--max-new-tokens", "5", "--temperature", "0", "--dtype", dtype, "--json"]
    sampled = CliRunner().invoke(main, ["sample", str(model), *options])
    (expected,) = json.loads(sampled.stdout)["samples"]
    for answer in (plain, drafted):
        (choice,) = answer.json()["choices"]
        assert choice["text"] == expected["text"]
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(expected["log_probabilities"], abs=0.05)


@pytest.mark.parametrize("prefix", [(), (0,)])
def test_for_a_model_with_bos_it_names_the_routes_of_the_harness(
    prefix: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptzoo.serving.process.run_server.run_server", lambda app, **_: None)
    config: Any = Reference("tokenizer").validate({"type": "bpe", "vocab_size": 260})
    state = add_special_tokens(BpeTokenizer.fit(config, ["a cat"]), SpecialTokens(prefix=prefix, end=(256,)))
    tokenizer = config.build(state)
    save_model(tmp_path / "model", zoo.build({**SPEC, "vocab_size": tokenizer.vocab_size}), tokenizer)
    result = CliRunner().invoke(main, ["serve", *FREE_PORT, str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    assert ("give it /lm-eval/v1/completions, where they get BOS" in result.stderr) == bool(prefix)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-length", "1000"], "exceeds the 64 positions"),
        (["--draft", "nowhere"], "no such folder"),
        (["nowhere"], "no such folder"),
        (["--name", "a", "--name", "b"], "--name is given 2 times for 1 RUNs"),
        (["--name", ""], "needs a name that is not empty"),
        (["--rows", "1000000000000"], "Use a smaller --rows or --max-length, or serve fewer runs"),
    ],
)
def test_invalid_options_exit_before_the_server_starts(model: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["serve", *FREE_PORT, str(model), *arguments])
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_an_address_that_cannot_be_used_is_refused_before_a_model_is_loaded(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["serve", str(model), "--port", str(port)])
        assert result.exit_code == 2, result.output
        assert f"cannot listen on 127.0.0.1, port {port}: Address already in use. Choose another" in result.stderr
        with pytest.raises(GptzooError, match="did not start"):  # another program was faster
            run_server(Starlette(), host="127.0.0.1", port=port, announce=print)
    result = CliRunner().invoke(main, ["serve", str(model), "--host", "203.0.113.1"])  # no machine has it
    assert (result.exit_code, "listen on 203.0.113.1, port 8000: " in result.stderr) == (2, True), result.stderr


def test_several_runs_are_served_under_their_names(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps: list[Any] = []
    monkeypatch.setattr("gptzoo.serving.process.run_server.run_server", lambda app, **_: apps.append(app))
    save_model(tmp_path / "other", zoo.build(SPEC, seed=2), ByteTokenizer(ByteTokenizer.Config()))
    for options, names in (([], ["small-stories", "other"]), (["--name", "a", "--name", "b"], ["a", "b"])):
        result = CliRunner().invoke(main, ["serve", *FREE_PORT, str(model), str(tmp_path / "other"), *options])
        assert result.exit_code == 0, result.output
        with TestClient(apps[-1]) as client:
            assert [card["id"] for card in client.get("/v1/models").json()["data"]] == names
            request = {"prompt": "Once", "max_tokens": 8, "temperature": 0}
            texts = [client.post("/v1/completions", json={**request, "model": name}).json() for name in names]
            assert [text["model"] for text in texts] == names
            assert texts[0]["choices"][0]["text"] != texts[1]["choices"][0]["text"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "2 models have the name 'small-stories'"),
        (["--name", "a"], "--name is given 1 times for 2 RUNs"),
        (["--name", "a", "--name", "b", "--draft", "DRAFT"], "--draft is for a single RUN"),
    ],
)
def test_runs_that_cannot_be_served_together_are_refused(model: Path, options: list[str], message: str) -> None:
    given = [str(model) if option == "DRAFT" else option for option in options]
    result = CliRunner().invoke(main, ["serve", *FREE_PORT, str(model), str(model), *given])
    assert result.exit_code == 2, result.output
    assert message in result.output


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("fe80::1", "http://[fe80::1]:80"),
        ("localhost", "http://localhost:80"),
    ],
)
def test_the_address_can_be_opened_on_this_machine(host: str, url: str) -> None:
    assert server_url(host, 80) == url


def test_the_example_request_is_safe_in_a_shell() -> None:
    name = 'it\'s $HOME `x` "é"'
    words = shlex.split(example_request("http://[::1]:80", name, key_variable=None))
    assert words[:2] == ["curl", "http://[::1]:80/v1/completions"]
    assert json.loads(words[-1])["model"] == name


def test_a_draft_model_with_another_tokenizer_is_rejected(model: Path, tmp_path: Path) -> None:
    letters = CharTokenizer(CharTokenizer.Config(), list("abcdefg"))
    save_model(tmp_path / "letters", zoo.build({**SPEC, "vocab_size": letters.vocab_size}), letters)
    result = CliRunner().invoke(main, ["serve", *FREE_PORT, str(model), "--draft", str(tmp_path / "letters")])
    assert result.exit_code == 2, result.output
    assert "letters: its tokenizer differs from the tokenizer of" in result.output


def test_a_missing_package_is_reported_with_the_command_to_install_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(main, ["serve", *FREE_PORT, str(model)])
    assert result.exit_code == 2
    assert "pip install 'gptzoo[serve]'" in result.output

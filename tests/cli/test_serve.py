"""`gptzoo serve` on the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient
from support import with_large_weights

import gptzoo as zoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.bpe import BpeTokenizer
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.data.tokenizers.special_tokens import SpecialTokens, add_special_tokens
from gptzoo.reference import Reference

SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 1, "n_heads": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "small-stories"
    save_model(folder, with_large_weights(zoo.build(SPEC)), ByteTokenizer(ByteTokenizer.Config()))
    return folder


def test_it_serves_the_model_under_the_name_of_its_folder_until_ctrl_c(model: Path) -> None:
    command = [sys.executable, "-m", "gptzoo", "serve", str(model), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "GPTZOO_API_KEY": "k"})
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "running on" in line)
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url is not None, line
        with openai.OpenAI(base_url=f"{url[0]}/v1", api_key="k", max_retries=0) as client:
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
    monkeypatch.setattr("gptzoo.serving.run_server.run_server", lambda app, **_: apps.append(app))
    result = CliRunner().invoke(main, ["serve", str(model), "--draft", str(model), "--dtype", dtype])
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
    monkeypatch.setattr("gptzoo.serving.run_server.run_server", lambda app, **_: None)
    config: Any = Reference("tokenizer").validate({"type": "bpe", "vocab_size": 260})
    state = add_special_tokens(BpeTokenizer.fit(config, ["a cat"]), SpecialTokens(prefix=prefix, end=(256,)))
    tokenizer = config.build(state)
    save_model(tmp_path / "model", zoo.build({**SPEC, "vocab_size": tokenizer.vocab_size}), tokenizer)
    result = CliRunner().invoke(main, ["serve", str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    assert ("give it /lm-eval/v1/completions, where they get BOS" in result.stderr) == bool(prefix)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such folder"),
        (["--max-length", "1000"], "exceeds the 64 positions"),
        (["--draft", "nowhere"], "no such folder"),
    ],
)
def test_invalid_options_exit_before_the_server_starts(model: Path, arguments: list[str], message: str) -> None:
    run = [] if arguments == ["nowhere"] else [str(model)]
    result = CliRunner().invoke(main, ["serve", *run, *arguments])
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_a_draft_model_with_another_tokenizer_is_rejected(model: Path, tmp_path: Path) -> None:
    letters = CharTokenizer(CharTokenizer.Config(), list("abcdefg"))
    save_model(tmp_path / "letters", zoo.build({**SPEC, "vocab_size": letters.vocab_size}), letters)
    result = CliRunner().invoke(main, ["serve", str(model), "--draft", str(tmp_path / "letters")])
    assert result.exit_code == 2, result.output
    assert "letters: its tokenizer differs from the tokenizer of" in result.output


def test_a_missing_package_is_reported_with_the_command_to_install_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(main, ["serve", str(model)])
    assert result.exit_code == 2
    assert "pip install 'gptzoo[serve]'" in result.output

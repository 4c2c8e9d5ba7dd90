"""gptzoo serve, as a user starts it and stops it."""

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
from support import loud

import gptzoo as zoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.tokenizer import ByteTokenizer, CharTokenizer

SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 1, "n_heads": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "small-stories"
    save_model(folder, loud(zoo.build(SPEC)), ByteTokenizer(ByteTokenizer.Config()))
    return folder


def test_it_serves_the_model_under_its_folder_s_name_until_it_is_interrupted(model: Path) -> None:
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
def test_weights_of_every_form_are_served_and_speculated_with(
    model: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []
    monkeypatch.setattr("uvicorn.run", lambda app, **_: served.append(app))
    done = CliRunner().invoke(main, ["serve", str(model), "--draft", str(model), "--dtype", dtype])
    assert done.exit_code == 0, done.output
    request = {"model": "small-stories", "prompt": "Once", "max_tokens": 5, "temperature": 0, "logprobs": 1}
    with TestClient(served[0]) as client:
        plain = client.post("/v1/completions", json=request)
        drafted = client.post("/v1/completions", json={**request, "strategy": {"type": "speculative"}})
    how = ["--prompt", "Once", "--max-new-tokens", "5", "--temperature", "0", "--dtype", dtype, "--json"]
    sampled = CliRunner().invoke(main, ["sample", str(model), *how])
    (expected,) = json.loads(sampled.stdout)["samples"]
    for answer in (plain, drafted):
        (choice,) = answer.json()["choices"]
        assert choice["text"] == expected["text"]
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(expected["log_probabilities"], abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "no such folder"),
        (["--max-length", "1000"], "reach"),
        (["--draft", "nowhere"], "no such folder"),
    ],
)
def test_what_cannot_be_served_is_told_before_it_listens(model: Path, arguments: list[str], says: str) -> None:
    run = [] if arguments == ["nowhere"] else [str(model)]
    done = CliRunner().invoke(main, ["serve", *run, *arguments])
    assert done.exit_code == 2, done.output
    assert says in done.output


def test_a_draft_of_another_tokenizer_is_refused_by_its_name(model: Path, tmp_path: Path) -> None:
    letters = CharTokenizer(CharTokenizer.Config(), list("abcdefg"))
    save_model(tmp_path / "letters", zoo.build({**SPEC, "vocab_size": letters.vocab_size}), letters)
    done = CliRunner().invoke(main, ["serve", str(model), "--draft", str(tmp_path / "letters")])
    assert done.exit_code == 2, done.output
    assert "letters: its tokenizer is another than that of" in done.output


def test_without_the_extra_it_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = CliRunner().invoke(main, ["serve", str(model)])
    assert done.exit_code == 2
    assert "pip install 'gptzoo[serve]'" in done.output

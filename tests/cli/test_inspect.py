"""`gptzoo inspect` from the command line: self-contained pages, pictures, JSON, and errors."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from support import with_large_weights

import gptzoo as zoo
from gptzoo.checkpoint.model_folder import load, save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.inspection.attention import attention_maps

TEXT = "a </script> & b"


def gptzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect") / "model"
    spec = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 2, "n_heads": 2}
    save_model(folder, with_large_weights(zoo.build(spec)), ByteTokenizer(ByteTokenizer.Config()))
    return folder


def data_of(page: str) -> Any:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(data)


def test_attention_writes_a_page_and_a_picture(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = gptzoo("inspect", "attention", model, "--prompt", TEXT)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")
    data = data_of((tmp_path / "attention.html").read_text(encoding="utf-8"))
    expected = attention_maps(load(model), list(TEXT.encode()))
    assert data["tokens"] == list(expected.tokens)
    for shown, true in zip(data["maps"], expected.maps, strict=True):
        steps = np.frombuffer(base64.b64decode(shown["data"]), dtype="<i2").reshape(shown["shape"])
        np.testing.assert_allclose(steps * shown["scale"], true.weights.numpy(), atol=2e-5)


@pytest.mark.parametrize("what", ["attention", "logits"])
def test_a_page_is_self_contained_and_no_token_can_end_its_script(model: Path, tmp_path: Path, what: str) -> None:
    gptzoo("inspect", what, model, "--prompt", TEXT, "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|src=|<link|@import|url\(|fetch\(", page)
    assert page.count("</script>") == 2
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize("what", ["attention", "logits"])
def test_it_says_which_family_of_transformers_the_model_is_exported_to(model: Path, tmp_path: Path, what: str) -> None:
    done = gptzoo("inspect", what, model, "--prompt", "abc", "--json")
    assert json.loads(done.stdout)["export"] == {"family": "gpt2", "closest": None, "obstacles": []}
    assert f"{model}: exports as gpt2" in done.stderr
    spec = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 2, "n_heads": 2}
    variant = zoo.build({**spec, "attention": {"type": "sdpa", "window": 8}})
    save_model(tmp_path / "model", variant, ByteTokenizer(ByteTokenizer.Config()))
    done = gptzoo("inspect", what, tmp_path / "model", "--prompt", "abc", "--json")
    assert json.loads(done.stdout)["export"] == {
        "family": None, "closest": "gpt2", "obstacles": ["attention.window 8"]
    }  # fmt: skip
    assert "no native export: attention.window 8 (closest: gpt2)" in done.stderr


def test_attention_prints_the_weights_as_json(model: Path) -> None:
    report = json.loads(
        gptzoo("inspect", "attention", model, "--prompt", "abc", "--layer", "1", "--head", "1", "--json").stdout
    )
    expected = attention_maps(load(model), list(b"abc")).maps[1]
    assert report["maps"] == [
        {"path": "blocks.1.attention", "type": "sdpa", "heads": [1], "weights": expected.weights[1:].tolist()}
    ]


def test_logits_prints_the_top_tokens_of_each_position(model: Path, tmp_path: Path) -> None:
    report = json.loads(gptzoo("inspect", "logits", model, "--prompt", "abc", "--top", "3", "--json").stdout)
    assert report["tokens"] == ["a", "b", "c"]
    assert [layer["path"] for layer in report["layers"]] == ["in", "blocks.0", "blocks.1"]
    done = gptzoo("inspect", "logits", model, "--prompt", "abc", "--top", "3", "--out", tmp_path / "lens.png")
    lines = done.stdout.splitlines()[1:]
    for position, line in enumerate(lines):
        for text, share in zip(
            report["layers"][-1]["texts"][position], report["layers"][-1]["probabilities"][position], strict=True
        ):
            assert f"{text} {100 * share:.1f}%" in line
    assert (tmp_path / "lens.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attention"], "give either --prompt or --file"),
        (["attention", "--prompt", "a", "--file", "x"], "give either --prompt or --file"),
        (
            ["attention", "--prompt", "abc", "--out", "map.gif"],
            "expected FILE.html or FILE.png, got 'map.gif'",
        ),
        (["attention", "--prompt", "abc", "--layer", "7"], "no attention map of layer 7; give a number from 0 to 1"),
        (["attention", "--prompt", "abc", "--out", "nowhere/map.html"], "nowhere/map.html: cannot be written"),
        (["logits", "--prompt", "x" * 65], "the prompt has 65 tokens"),
    ],
)
def test_wrong_input_ends_with_exit_code_2(model: Path, arguments: list[str], message: str) -> None:
    what, *rest = arguments
    done = gptzoo("inspect", what, model, *rest)
    assert (done.exit_code, message in done.stderr) == (2, True), done.output
    assert "Traceback" not in done.output

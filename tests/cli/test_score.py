"""`gptzoo score` on the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from support import with_large_weights

import gptzoo as zoo
from gptzoo.checkpoint.model_folder import load, save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer


def gptzoo(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score") / "model"
    spec = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 1, "n_heads": 2}
    save_model(folder, with_large_weights(zoo.build(spec)), ByteTokenizer(ByteTokenizer.Config()))
    return folder


def test_the_results_are_those_of_a_full_forward_pass(model: Path) -> None:
    report = json.loads(gptzoo("score", model, "naïve", "--json").stdout)
    row = torch.tensor([[256, *"naïve".encode()]])
    with torch.inference_mode():
        logits = load(model).model(row[:, :-1])[0][0].double()
    expected = logits.log_softmax(-1)[torch.arange(6), row[0, 1:]]
    assert report["tokens"] == row[0, 1:].tolist()
    assert report["log_probabilities"] == pytest.approx(expected.tolist(), abs=1e-4)
    assert report["log_probability"] == pytest.approx(expected.sum().item(), abs=1e-3)
    assert report["loss"] == pytest.approx(-expected.mean().item(), abs=1e-4)
    assert report["bits_per_byte"] == pytest.approx(-expected.sum().item() / math.log(2) / 6, abs=1e-4)
    assert (report["n_tokens"], report["n_bytes"]) == (6, 6)


def test_the_text_may_come_from_a_file_or_from_stdin(model: Path, tmp_path: Path) -> None:
    expected = gptzoo("score", model, "naïve", "--json").stdout
    (tmp_path / "text.txt").write_text("naïve\n", encoding="utf-8")
    assert gptzoo("score", model, "--file", tmp_path / "text.txt", "--json").stdout == expected
    assert gptzoo("score", model, "--file", "-", "--json", stdin="naïve\n").stdout == expected


def test_tokens_are_printed_with_the_characters_that_they_complete(model: Path) -> None:
    lines = gptzoo("score", model, "naï", "--tokens").stdout.splitlines()
    assert [line.split()[1:] for line in lines[:4]] == [["110", "'n'"], ["97", "'a'"], ["195", "''"], ["175", "'ï'"]]
    assert lines[-2].startswith("perplexity")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either TEXT or --file"),
        (["a", "--file", "-"], "give either TEXT or --file"),
        ([""], "nothing to score"),
    ],
)
def test_invalid_input_exits_with_code_2(model: Path, arguments: list[str], message: str) -> None:
    result = gptzoo("score", model, *arguments)
    assert (result.exit_code, message in result.stderr) == (2, True), result.output

"""gptzoo score, as a user meets it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from support import loud

import gptzoo as zoo
from gptzoo.checkpoint.model_folder import load, save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.tokenizer import ByteTokenizer


def gptzoo(*arguments: str | Path, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=typed)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score") / "model"
    spec = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 1, "n_heads": 2}
    save_model(folder, loud(zoo.build(spec)), ByteTokenizer(ByteTokenizer.Config()))
    return folder


def test_the_numbers_are_those_of_a_full_forward_over_the_text(model: Path) -> None:
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


def test_a_text_may_come_from_a_file_or_from_stdin(model: Path, tmp_path: Path) -> None:
    expected = gptzoo("score", model, "naïve", "--json").stdout
    (tmp_path / "text.txt").write_text("naïve\n", encoding="utf-8")
    assert gptzoo("score", model, "--file", tmp_path / "text.txt", "--json").stdout == expected
    assert gptzoo("score", model, "--file", "-", "--json", typed="naïve\n").stdout == expected


def test_tokens_are_shown_with_the_characters_that_they_complete(model: Path) -> None:
    lines = gptzoo("score", model, "naï", "--tokens").stdout.splitlines()
    assert [line.split()[1:] for line in lines[:4]] == [["110", "'n'"], ["97", "'a'"], ["195", "''"], ["175", "'ï'"]]
    assert lines[-2].startswith("perplexity")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "give a TEXT or a --file"), (["a", "--file", "-"], "give a TEXT or a --file"), ([""], "nothing to score")],
)
def test_wrong_input_leaves_with_code_2(model: Path, arguments: list[str], message: str) -> None:
    done = gptzoo("score", model, *arguments)
    assert (done.exit_code, message in done.stderr) == (2, True), done.output

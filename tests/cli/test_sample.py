"""gptzoo sample, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import gptzoo as zoo
from gptzoo.checkpoint.folder import save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers import ByteTokenizer, CharTokenizer


def gptzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    spec = {"vocab_size": 257, "context_length": 32, "d_model": 16, "n_layers": 1, "n_heads": 2}
    save_model(tmp_path / "model", zoo.build(spec), ByteTokenizer(ByteTokenizer.Config()))
    return tmp_path / "model"


def test_a_prompt_is_continued_and_a_seed_gives_the_same_text(model: Path) -> None:
    one, again = (gptzoo("sample", model, "--prompt", "ab", "--max-new-tokens", "20") for _ in range(2))
    assert one.exit_code == 0, one.output
    assert one.stdout == again.stdout
    assert one.stdout.startswith("ab")
    assert gptzoo("sample", model, "--prompt", "ab", "--max-new-tokens", "20", "--seed", "2").stdout != one.stdout


def test_streamed_text_is_the_text_that_json_reports(model: Path) -> None:
    arguments = ("sample", model, "--prompt", "ab", "--max-new-tokens", "20", "--top-k", "9", "--top-p", "0.9")
    report = json.loads(gptzoo(*arguments, "--json").stdout)
    assert len(report["samples"]) == 1
    assert gptzoo(*arguments).stdout == f"ab{report['samples'][0]['text']}\n"
    assert [p["type"] for p in report["sampling"]["processors"]] == ["temperature", "top_k", "top_p"]


def test_many_samples_begin_with_the_one_sample(model: Path) -> None:
    arguments = ("sample", model, "--prompt", "ab", "--max-new-tokens", "8", "--json")
    one, three = (json.loads(gptzoo(*arguments, "--num-samples", n).stdout)["samples"] for n in ("1", "3"))
    assert len(three) == 3
    assert three[0] == one[0]
    text = gptzoo(*arguments[:-1], "--num-samples", "3").stdout
    assert text.count("--- sample") == 3


def test_no_prompt_starts_a_text(model: Path) -> None:
    assert gptzoo("sample", model, "--max-new-tokens", "3").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-new-tokens", "40"], "ask for at most"),
        (["--device", "cuda:99"], "cuda"),
        (["--device", "quantum"], "is not one that torch knows"),
        (["--top-p", "1.5"], "--top-p"),
        (["--temperature", "-1"], "--temperature"),
    ],
)
def test_wrong_input_leaves_with_code_2(model: Path, arguments: list[str], message: str) -> None:
    done = gptzoo("sample", model, "--prompt", "ab", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_folders_that_cannot_speak_say_why(tmp_path: Path) -> None:
    assert gptzoo("sample", tmp_path / "nowhere").exit_code == 2
    spec = {"vocab_size": 5, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 1}
    save_model(tmp_path / "mute", zoo.build(spec))
    done = gptzoo("sample", tmp_path / "mute", "--prompt", "x")
    assert done.exit_code == 2
    assert "has no tokenizer.json" in done.stderr
    save_model(tmp_path / "char", zoo.build(spec), CharTokenizer(CharTokenizer.Config(), "abcde"))
    assert "give a --prompt" in gptzoo("sample", tmp_path / "char").stderr
    assert "no id for 'z'" in gptzoo("sample", tmp_path / "char", "--prompt", "z").stderr

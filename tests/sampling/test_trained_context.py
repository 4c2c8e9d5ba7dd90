"""Text beyond the context that a model was trained on: one note, wherever it is generated or read."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import gptzoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.errors import UserNote

SPEC: dict[str, Any] = {
    "vocab_size": 257, "context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2, "positional": "rope",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context") / "model"
    save_model(folder, gptzoo.build(SPEC), ByteTokenizer(ByteTokenizer.Config()))
    return folder


def notes(*arguments: str | Path) -> list[str]:
    """Return the notes that a command prints."""
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return [line for line in result.stderr.splitlines() if line.startswith("note: ")]


def test_sampling_beyond_the_context_prints_one_note(model: Path) -> None:
    (note,) = notes("sample", model, "--prompt", "abcd", "--max-new-tokens", "13")
    assert "16 tokens that this model was trained on" in note
    assert "max_new_tokens" in note
    assert notes("sample", model, "--prompt", "abcd", "--max-new-tokens", "12") == []


def test_many_prompts_print_one_note(model: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps("ab" * n) for n in (1, 3, 9, 4)))
    options = ("--prompts", tmp_path / "prompts.jsonl", "--out", tmp_path / "out.jsonl", "--max-new-tokens", "3")
    assert len(notes("sample", model, *options)) == 1


@pytest.mark.parametrize("strategy", [["--beams", "2"], ["--contrastive", "0.5"], ["--num-samples", "3"]])
def test_every_strategy_prints_the_note(model: Path, strategy: list[str]) -> None:
    assert len(notes("sample", model, "--prompt", "abcd", "--max-new-tokens", "14", *strategy)) == 1


def test_inspecting_a_longer_text_prints_the_note(model: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert len(notes("inspect", "attention", model, "--prompt", "a" * 17, "--out", page)) == 1
    assert notes("inspect", "attention", model, "--prompt", "a" * 16, "--out", page) == []


def test_python_issues_a_warning() -> None:
    model = gptzoo.build(SPEC)
    with pytest.warns(UserNote, match="trained on"):
        gptzoo.generate(model, [[1, 2]], {"max_new_tokens": 15})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gptzoo.generate(model, [[1, 2]], {"max_new_tokens": 14})

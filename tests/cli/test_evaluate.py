"""The command `gptzoo eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import gptzoo as zoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.reference import Reference

SPEC: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "corpus": {"type": "text", "path": "text.txt"},
    "tokenizer": "char",
    "batch_size": 8,
    "steps": 4,
    "device": "cpu",
    "sample": {"max_new_tokens": 0},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the cat sat on the mat and the dog sat on the log. " * 30)
    (tmp_path / "run.json").write_text(json.dumps(SPEC))
    zoo.train("run.json", "run", quiet=True)
    return tmp_path


def gptzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def evaluated(*arguments: str | Path) -> dict[str, Any]:
    result = gptzoo("eval", "run", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_run_is_evaluated_on_its_held_out_text(folder: Path) -> None:
    last = json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    evaluation = evaluated()
    assert evaluation["loss"] == last["val/loss"]
    assert evaluation["bits_per_byte"] == last["val/bits_per_byte"]
    assert (evaluation["split"], evaluation["protocol"], evaluation["precision"]) == ("val", "full", "fp32")
    text = gptzoo("eval", "run").stdout
    assert f"loss           {last['val/loss']:.4f} nats per token" in text
    assert f"bits per byte  {last['val/bits_per_byte']:.4f}" in text


def test_text_can_be_a_file_a_corpus_a_run_spec_or_prepared_tokens(folder: Path) -> None:
    Path("held out.txt").write_text("the dog sat on the cat. " * 9)
    Path("held.jsonl").write_text(json.dumps({"text": "the dog sat on the cat. " * 9}) + "\n")
    whole = evaluated("--data", "held out.txt")
    assert (whole["n_tokens"], whole["n_bytes"]) == (24 * 9 - 1, 24 * 9)
    assert evaluated("--data", "held.jsonl")["loss"] == whole["loss"]
    corpus = json.dumps({"type": "text", "path": "text.txt", "val_path": "held out.txt"})
    assert evaluated("--data", corpus)["loss"] == whole["loss"]
    Path("corpus.json").write_text(corpus)
    assert evaluated("--data", "corpus.json")["loss"] == whole["loss"]
    assert evaluated("--data", "run.json")["loss"] == evaluated()["loss"]
    prepared = json.loads(gptzoo("prepare", "run.json", "--json").stdout)[0]["folder"]
    assert evaluated("--data", prepared)["loss"] == evaluated()["loss"]
    assert evaluated("--split", "train")["n_tokens"] > 5 * evaluated()["n_tokens"]


def test_random_batches_is_nanogpts_protocol(folder: Path) -> None:
    options = ("--protocol", "random-batches", "--batches", "5", "--batch-size", "2")
    evaluation = evaluated(*options)
    assert (evaluation["protocol"], evaluation["n_tokens"]) == ("random-batches", 5 * 2 * 16)
    assert evaluated(*options, "--seed", "2")["loss"] != evaluation["loss"] == evaluated(*options)["loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["run", "--checkpoint", "3"], "no checkpoint of step 3; steps with a checkpoint: 4"),
        (["run", "--checkpoint", "first"], "expected last, best or a step number, got 'first'"),
        (["run", "--averaged"], "no averaged weights"),
        (["run", "--batches", "3"], "--batches requires --protocol random-batches"),
        (["run", "--data", "nowhere.txt"], "nowhere.txt: no such file or folder"),
        (["run", "--data", "storys"], "did you mean 'stories'?"),
        (["run", "--data", '{"type": "txt", "path": "x"}'], "did you mean 'text'?"),
        (["run", "--data", "cache"], "has no tokens from `gptzoo prepare`"),
        (["run", "--data", "greek.txt"], "tokenizer 'char' has no token for 'Ω'"),
        (["run", "--data", "latin1.txt"], "UTF-8"),
        (["run", "--data", "empty.txt"], "no text for the val split"),
        (["run", "--batching", "packd"], "did you mean 'packed'?"),
        (["run", "--precision", "fp8"], "fp8"),
    ],
)
def test_wrong_input_is_reported_in_one_line(folder: Path, arguments: list[str], message: str) -> None:
    Path("greek.txt").write_text("Ω")
    Path("latin1.txt").write_bytes("café".encode("latin1"))
    Path("empty.txt").touch()
    result = gptzoo("eval", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_data_that_is_not_text_is_rejected(folder: Path) -> None:
    (folder / "noise.json").write_bytes(b"\x8b\xff")
    for data, reason in (("noise.json", "is not UTF-8 text"), ("storys", "did you mean 'stories'?")):
        result = gptzoo("eval", "run", "--data", data)
        assert result.exit_code == 2
        assert reason in result.stderr


# ---------------------------------------------------------------------- windows


def test_the_window_and_the_stride_are_part_of_the_output(folder: Path) -> None:
    full, strided = evaluated(), evaluated("--window", "16", "--stride", "4")
    assert (full["window"], full["stride"], full["protocol"]) == (16, 16, "full")
    assert (strided["window"], strided["stride"], strided["protocol"]) == (16, 4, "sliding")
    assert full["text"] == strided["text"]
    assert full["n_tokens"] == strided["n_tokens"]
    assert evaluated("--window", "16")["loss"] == pytest.approx(full["loss"], rel=1e-6)
    assert evaluated("--window", "8")["stride"] == 8
    assert "window 16, stride 4" in gptzoo("eval", "run", "--stride", "4").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "17"], "window: 17 tokens are too long: this model has 16 positions"),
        (["--stride", "17"], "stride: expected 1 to 16 tokens"),
        (["--window", "4", "--stride", "5"], "stride: expected 1 to 4 tokens"),
        (["--window", "0"], "0 is not in the range x>=1"),
        (["--stride", "2", "--protocol", "random-batches"], "--window and --stride are for the full pass"),
        (["--stride", "2", "--batching", "packed"], "this batching provides documents"),
    ],
)
def test_windows_that_cannot_be_read_are_refused(folder: Path, options: list[str], message: str) -> None:
    result = gptzoo("eval", "run", *options)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("n_bytes", [2, 15, 16, 17, 31])
@pytest.mark.parametrize("options", [[], ["--stride", "3"], ["--batching", "packed"]], ids=str)
def test_a_text_shorter_than_two_contexts_can_be_measured(folder: Path, n_bytes: int, options: list[str]) -> None:
    """Nothing is trained on it, so the length that training needs does not matter."""
    Path("short.txt").write_text(("the cat sat on the mat and the dog sat on the log. ")[:n_bytes])
    result = evaluated("--data", "short.txt", *options)
    assert (result["n_tokens"], result["n_bytes"]) == (n_bytes - 1, n_bytes)
    text = gptzoo("eval", "run", "--data", "short.txt", *options)
    assert "train" not in text.output.replace("run/", "")
    assert "note           the text is short: its first token" in text.output


def test_a_model_with_a_long_context_can_be_measured_on_a_short_text(folder: Path) -> None:
    spec = {**SPEC["model"], "context_length": 8192, "vocab_size": 257, "positional": "rope"}
    save_model(Path("model"), zoo.build(spec), Reference("tokenizer").validate("byte").build())
    Path("page.txt").write_text("the cat sat on the mat. " * 50)
    full = json.loads(gptzoo("eval", "model", "--data", "page.txt", "--json").stdout)
    assert (full["n_tokens"], full["window"]) == (24 * 50 - 1, 8192)
    short = json.loads(gptzoo("eval", "model", "--data", "page.txt", "--window", "64", "--json").stdout)
    assert (short["n_tokens"], short["window"]) == (24 * 50 - 1, 64)


def test_training_still_refuses_too_little_text_before_it_writes(folder: Path) -> None:
    Path("text.txt").write_text("the cat sat on the mat a")
    result = gptzoo("train", "run.json", "--out", "new")
    assert result.exit_code == 2
    assert "the training text has 21 tokens, but context_length 16 needs at least 32" in result.stderr
    assert not (folder / "new" / "run.json").exists()

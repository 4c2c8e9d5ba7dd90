"""gptzoo eval, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import gptzoo as zoo
from gptzoo.cli import main

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


def measured(*arguments: str | Path) -> dict[str, Any]:
    done = gptzoo("eval", "run", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_run_is_measured_on_the_text_that_it_did_not_see(folder: Path) -> None:
    last = json.loads((folder / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    found = measured()
    assert found["loss"] == last["val/loss"]
    assert found["bits_per_byte"] == last["val/bits_per_byte"]
    assert (found["split"], found["protocol"], found["precision"]) == ("val", "full", "fp32")
    text = gptzoo("eval", "run").stdout
    assert f"loss           {last['val/loss']:.4f} nats per token" in text
    assert f"bits per byte  {last['val/bits_per_byte']:.4f}" in text


def test_any_text_can_be_given_as_a_file_a_corpus_a_run_spec_or_what_was_prepared(folder: Path) -> None:
    Path("held out.txt").write_text("the dog sat on the cat. " * 9)
    Path("held.jsonl").write_text(json.dumps({"text": "the dog sat on the cat. " * 9}) + "\n")
    whole = measured("--data", "held out.txt")
    assert whole["n_tokens"] == whole["n_bytes"] == 24 * 9 - 1
    assert measured("--data", "held.jsonl")["loss"] == whole["loss"]
    corpus = json.dumps({"type": "text", "path": "text.txt", "val_path": "held out.txt"})
    assert measured("--data", corpus)["loss"] == whole["loss"]
    Path("corpus.json").write_text(corpus)
    assert measured("--data", "corpus.json")["loss"] == whole["loss"]
    assert measured("--data", "run.json")["loss"] == measured()["loss"]
    prepared = json.loads(gptzoo("prepare", "run.json", "--json").stdout)[0]["folder"]
    assert measured("--data", prepared)["loss"] == measured()["loss"]
    assert measured("--split", "train")["n_tokens"] > 5 * measured()["n_tokens"]


def test_nanogpts_protocol_is_there_by_name(folder: Path) -> None:
    options = ("--protocol", "random-batches", "--batches", "5", "--batch-size", "2")
    found = measured(*options)
    assert (found["protocol"], found["n_tokens"]) == ("random-batches", 5 * 2 * 16)
    assert measured(*options, "--seed", "2")["loss"] != found["loss"] == measured(*options)["loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["run", "--checkpoint", "3"], "no checkpoint of step 3; steps with a checkpoint: 4"),
        (["run", "--checkpoint", "first"], "expected last, best or a step number, got 'first'"),
        (["run", "--averaged"], "no averaged weights"),
        (["run", "--batches", "3"], "--batches is of --protocol random-batches"),
        (["run", "--data", "nowhere.txt"], "nowhere.txt: no such file or folder"),
        (["run", "--data", "storys"], "did you mean 'stories'?"),
        (["run", "--data", '{"type": "txt", "path": "x"}'], "did you mean 'text'?"),
        (["run", "--data", "cache"], "holds no tokens that `gptzoo prepare` made"),
        (["run", "--data", "greek.txt"], "tokenizer 'char' has no token for 'Ω'"),
        (["run", "--data", "latin1.txt"], "UTF-8"),
        (["run", "--data", "empty.txt"], "no text for the train split"),
        (["run", "--batching", "packd"], "did you mean 'packed'?"),
        (["run", "--precision", "fp8"], "fp8"),
    ],
)
def test_wrong_input_is_told_in_a_line(folder: Path, arguments: list[str], message: str) -> None:
    Path("greek.txt").write_text("Ω")
    Path("latin1.txt").write_bytes("café".encode("latin1"))
    Path("empty.txt").touch()
    done = gptzoo("eval", *arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_data_that_is_no_text_is_told(folder: Path) -> None:
    (folder / "noise.json").write_bytes(b"\x8b\xff")
    for data, reason in (("noise.json", "is not UTF-8 text"), ("storys", "did you mean 'stories'?")):
        done = gptzoo("eval", "run", "--data", data)
        assert done.exit_code == 2
        assert reason in done.stderr

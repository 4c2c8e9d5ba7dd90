"""The command `gptzoo prepare`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gptzoo.cli import main
from gptzoo.data import prepare as store_module

RUN: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "corpus": {"type": "jsonl", "path": "text.jsonl"},
    "tokenizer": "char",
    "steps": 2,
    "device": "cpu",
    "sample": {"max_new_tokens": 0},
}
TEXTS = [f"document {number} says é\n" for number in range(200)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a folder with a run spec and its text."""
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return tmp_path


def gptzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def prepared(*arguments: str | Path) -> list[dict[str, Any]]:
    done = gptzoo("prepare", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_it_reports_counts_and_the_folder(folder: Path) -> None:
    (row,) = prepared("run.json", "--workers", "1")
    assert {split: counts["documents"] for split, counts in row["splits"].items()}.keys() == {"train", "val"}
    assert sum(counts["documents"] for counts in row["splits"].values()) == 200
    for counts in row["splits"].values():
        # é is two bytes in one token; the newlines between documents are tokens, but no bytes of a document.
        assert counts["bytes"] == counts["tokens"] + 1
    tokens_folder = Path(row["folder"])
    assert tokens_folder.parent == folder / "cache" / "tokens"
    assert (tokens_folder / "train.bin").stat().st_size == 2 * row["splits"]["train"]["tokens"]
    text = gptzoo("prepare", "run.json").stdout
    for shown in (row["folder"], row["fingerprint"], f"{row['splits']['val']['tokens']:,} tokens", "corpus jsonl"):
        assert shown in text


def test_training_uses_the_prepared_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = prepared("run.json", "--workers", "2")

    def never(*arguments: Any) -> Any:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(store_module, "_build", never)
    done = gptzoo("train", "run.json", "--out", "out")
    assert done.exit_code == 0, done.output
    assert row["fingerprint"] in (folder / "out" / "environment.json").read_text()
    assert prepared("out")[0]["fingerprint"] == row["fingerprint"]  # a run folder


def test_set_changes_a_field_of_the_run(folder: Path) -> None:
    assert prepared("run.json", "--set", "tokenizer=byte")[0]["vocab_size"] == 257


def test_a_corpus_is_a_name_inline_json_or_a_file(folder: Path) -> None:
    corpus = {"type": "jsonl", "path": "text.jsonl"}
    (folder / "corpus.json").write_text(json.dumps(corpus))
    rows = prepared("corpus.json", json.dumps(corpus), '{"type": "stories", "n_stories": 30}', "run.json")
    assert rows[0]["fingerprint"] == rows[1]["fingerprint"]
    assert [row["vocab_size"] for row in rows[:3]] == [257] * 3
    assert rows[3]["tokenizer"] == {"type": "char"}  # a run names its own
    (row,) = prepared("corpus.json", "--tokenizer", '{"type": "bpe", "vocab_size": 300}')
    assert 257 <= row["vocab_size"] <= 300


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["storys"], "storys: no such file or folder, and no corpus; did you mean 'stories'?"),
        (['{"type": "stories", "n": 3}'], "corpus: $.n: 'stories' has no option 'n'"),
        (["text.jsonl"], 'text.jsonl: $: expected a spec. To read this file as a corpus, write \'{"type": "text"'),
        (["nowhere.json"], "nowhere.json: $: cannot be read"),
        (["stories", "--tokenizer", "bite"], "--tokenizer: $: no tokenizer named 'bite'; did you mean 'byte'?"),
        (["run.json", "--set", "corpus.path=gone.jsonl"], "gone.jsonl: no such file or folder"),
        (["run.json", "--set", "stepz=1"], "run.json: $.stepz: no field named 'stepz'"),
    ],
)
def test_the_error_for_invalid_input_explains_it(folder: Path, arguments: list[str], message: str) -> None:
    done = gptzoo("prepare", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_without_a_terminal_progress_is_lines_on_stderr_and_stdout_is_only_json(folder: Path) -> None:
    command = [sys.executable, "-m", "gptzoo", "prepare", "run.json", "--json", "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    json.loads(done.stdout)
    lines = [line for line in done.stderr.splitlines() if line.startswith("run.json: ")]
    assert [line.split()[1] for line in lines] == ["tokenizer:", "train:", "val:"]
    assert all("documents" in line for line in lines)
    assert "\x1b" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_a_progress_bar(folder: Path) -> None:
    import pty

    master, slave = pty.openpty()
    command = [sys.executable, "-m", "gptzoo", "prepare", "run.json", "--workers", "2"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=slave, env=environment) as process:
        os.close(slave)
        output = b""
        with contextlib.suppress(OSError):  # Linux raises EIO when the other end is closed
            while piece := os.read(master, 65536):
                output += piece
        os.close(master)
        assert process.wait(timeout=60) == 0
    shown = output.decode(errors="replace")
    assert all(stage in shown for stage in ("tokenizer", "train", "val", "━", "MB/s", "documents"))
    assert "…" not in shown  # not truncated


def test_it_says_how_much_held_out_text_is_also_in_the_training_text(folder: Path) -> None:
    documents = [f"document {number} of a corpus that has each of them twice" for number in range(60)]
    for name, end in (("a", ""), ("b", " ")):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": d + end}) + "\n" for d in documents))
    parts = [{"corpus": {"type": "jsonl", "path": f"{name}.jsonl"}} for name in "ab"]
    (folder / "twice.json").write_text(json.dumps({"type": "mixture", "parts": parts}))
    (row,) = prepared("twice.json", "--workers", "1")
    n_val, overlap = row["splits"]["val"]["documents"], row["overlap"]
    assert overlap["removed"]
    assert overlap["documents"] == n_val
    assert overlap["duplicates"] == 120 - n_val - row["splits"]["train"]["documents"] > 0
    assert overlap["repeated_lines"] == 0
    text = gptzoo("prepare", "twice.json").stdout
    assert f"overlap      {overlap['sentence']}" in text
    assert "training documents equal to a held-out one were removed" in text

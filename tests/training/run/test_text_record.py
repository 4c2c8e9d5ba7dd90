"""The text of a run: its record, its overlap, runs of older versions, and a held-out text that changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gptzoo
from gptzoo.data.prepare import prepare
from gptzoo.spec.files import load_run_spec


@pytest.fixture
def leaking(run_spec: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A run whose corpus holds every document twice, so that held-out documents are in the training split."""
    documents = [f"document {number} says {number * number} times nothing\n" for number in range(200)]
    for name, end in (("a", ""), ("b", "  ")):
        lines = [json.dumps({"text": document + end}) + "\n" for document in documents]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    parts = [{"corpus": {"type": "jsonl", "path": str(tmp_path / f"{name}.jsonl")}} for name in "ab"]
    return {**run_spec, "corpus": {"type": "mixture", "parts": parts}, "batch_size": 8, "micro_batch_size": None}


def environment(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "environment.json").read_text())
    return value


def metrics(run: Path) -> list[dict[str, Any]]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if key != "tokens_per_second"} for row in rows]


def test_a_run_records_its_held_out_text_and_says_the_overlap(
    leaking: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gptzoo.train(leaking, tmp_path / "run", until=1)
    spec = load_run_spec(leaking)
    _, store = prepare(spec.corpus.build(), spec.tokenizer)
    record = environment(tmp_path / "run")
    assert store.texts is not None
    assert record["held_out"]["text"] == store.texts["val"]
    assert record["held_out"]["bytes"] == store.n_bytes["val"]
    assert record["held_out"]["documents"] == len(store.spans["val"])
    assert record["overlap"]["duplicates"] > 10
    assert record["overlap"]["removed"]
    assert store.overlap is not None
    assert store.overlap.describe() in "".join(capfd.readouterr())
    assert "warning: the validation loss" not in store.overlap.describe()


def test_a_run_of_an_older_version_resumes_with_its_own_tokens(
    leaking: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a run kept the held-out documents in its training text, and has no record of its held-out text."""
    from gptzoo.training.run.run_folder import RunFolder

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "keeps_duplicates", True)
        gptzoo.train(leaking, tmp_path / "whole", quiet=True)
        gptzoo.train(leaking, tmp_path / "run", until=5, quiet=True)
    for run in ("whole", "run"):
        old = environment(tmp_path / run)
        del old["held_out"], old["overlap"]
        (tmp_path / run / "environment.json").write_text(json.dumps(old))
    gptzoo.train(leaking, tmp_path / "run", resume=True)
    output = "".join(capfd.readouterr())
    assert "warning: the validation loss is measured on text that is partly trained on" in output
    assert "bits per byte: an older version started this run" in output
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    assert "held_out" not in environment(tmp_path / "run")
    new = gptzoo.train(leaking, tmp_path / "new", quiet=True)
    assert environment(new.folder)["data"] != environment(tmp_path / "run")["data"]
    ours, theirs = gptzoo.evaluate(new.folder), gptzoo.evaluate(tmp_path / "run")
    assert ours.text == theirs.text
    assert ours.likelihood.n_bytes == theirs.likelihood.n_bytes
    longer = {**leaking, "steps": 14}
    gptzoo.train(longer, tmp_path / "run", extend=True, quiet=True)
    gptzoo.train(longer, tmp_path / "run", resume=True, quiet=True)  # its data is still that of the older version


def test_the_best_loss_of_another_held_out_text_is_forgotten(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """With `override`, an easy text that was held out before must not stop the run, nor be its best evaluation."""
    text = (tmp_path / "text.txt").read_text()
    (tmp_path / "easy.txt").write_text(text[:2000])
    (tmp_path / "hard.txt").write_text("".join(chr(33 + (index * index) % 90) for index in range(2000)))
    corpus = {"type": "text", "path": str(tmp_path / "text.txt"), "val_path": str(tmp_path / "easy.txt")}
    spec = {**run_spec, "corpus": corpus, "checkpoint": {"every": 4, "best": True}, "eval": {"every": 4}}
    gptzoo.train(spec, tmp_path / "run", until=8, quiet=True)
    before = gptzoo.load_run_spec(spec)
    assert before.corpus.val_path.endswith("easy.txt")
    changed = {**spec, "corpus": {**corpus, "val_path": str(tmp_path / "hard.txt")}}
    result = gptzoo.train(changed, tmp_path / "run", override=True, quiet=True)
    rows = {row["step"]: row["val/loss"] for row in metrics(tmp_path / "run") if "val/loss" in row}
    assert rows[12] > rows[8]  # of another text, so it says nothing about step 8
    assert result.best_step == 12
    assert "the held-out text has changed" in (tmp_path / "run" / "changes.jsonl").read_text()
    assert environment(tmp_path / "run")["held_out"]["bytes"] == 2000

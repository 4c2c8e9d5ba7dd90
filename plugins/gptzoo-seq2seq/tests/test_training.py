"""Training, checkpoints and sampling on a real task: to reverse a string."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gptzoo

CONFIG = Path(__file__).parents[1] / "configs" / "reverse.json"


@pytest.fixture(scope="module")
def words() -> tuple[list[str], list[str]]:
    """Strings for training and held-out strings, of 3 to 8 letters from a to h."""
    rng = random.Random(0)
    drawn = list(dict.fromkeys("".join(rng.choices("abcdefgh", k=rng.randint(3, 8))) for _ in range(6000)))
    return drawn[400:], drawn[:400]


@pytest.fixture
def folder(tmp_path: Path, words: tuple[list[str], list[str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    for name, drawn in zip(("reverse.jsonl", "val.jsonl"), words, strict=True):
        lines = [json.dumps({"text": f"{word}={word[::-1]}"}) for word in drawn]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path


def run_spec(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the run spec of the package's config with the data in `folder`."""
    spec = json.loads(CONFIG.read_text())
    corpus = {"type": "jsonl", "path": str(folder / "reverse.jsonl"), "val_path": str(folder / "val.jsonl")}
    return {**spec, "corpus": corpus, **changes}


def fraction_reversed(loaded: Any, words: list[str]) -> float:
    """Return the fraction of words that the model reverses exactly, with the right end."""
    tokenizer = loaded.tokenizer
    greedy = gptzoo.SamplingSpec.model_validate(
        {
            "max_new_tokens": 9,
            "stop_tokens": tuple(tokenizer.separator()),
            "processors": [{"type": "temperature", "value": 0.0}],
        }
    )
    outputs = gptzoo.generate(loaded.model, [tokenizer.encode(f"{word}=") for word in words], greedy)
    return sum(tokenizer.decode(ids) == word[::-1] for ids, word in zip(outputs, words, strict=True)) / len(words)


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "tokens_per_second"} for row in rows]


def test_a_few_steps_lower_the_loss_and_the_run_can_be_loaded_and_sampled(folder: Path) -> None:
    result = gptzoo.train(run_spec(folder, steps=30), folder / "run", quiet=True)
    first, *_, last = metrics(folder / "run")
    assert last["val/loss"] < 0.5 * first["val/loss"]
    loaded = gptzoo.load(result.folder)
    assert loaded.spec.architecture.type == "encoder_decoder"
    prompts = [loaded.tokenizer.encode("abc="), loaded.tokenizer.encode("hgfedcba=")]
    assert [len(ids) for ids in gptzoo.generate(loaded.model, prompts, gptzoo.SamplingSpec(max_new_tokens=5))] == [5, 5]


def test_a_run_resumed_from_an_earlier_checkpoint_ends_with_the_same_bits(folder: Path) -> None:
    model = {**run_spec(folder)["model"], "dropout": 0.2}
    lines = (folder / "reverse.jsonl").read_text().splitlines(keepends=True)
    (folder / "reverse.jsonl").write_text("".join(lines[:400]))  # so few documents that an epoch ends within a batch
    spec = run_spec(folder, model=model, steps=6, batch_size=250, micro_batch_size=50)
    spec |= {"eval": {"every": 2}, "checkpoint": {"every": 3}}
    gptzoo.train(spec, folder / "whole", quiet=True)
    shutil.copytree(folder / "whole", folder / "resumed")
    newest = sorted((folder / "resumed" / "checkpoints").iterdir())[-1]
    shutil.rmtree(newest)
    gptzoo.train(spec, folder / "resumed", resume=True, quiet=True)
    assert metrics(folder / "resumed") == metrics(folder / "whole")
    for name in ("model.safetensors", "optimizer.safetensors"):
        files = [next((folder / run / "checkpoints" / newest.name).glob(name)) for run in ("whole", "resumed")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_micro_batches_train_like_the_whole_batch(folder: Path) -> None:
    for name, size in (("whole", None), ("parts", 8)):
        gptzoo.train(run_spec(folder, steps=3, micro_batch_size=size), folder / name, quiet=True)
    for one, other in zip(metrics(folder / "whole"), metrics(folder / "parts"), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_a_document_that_is_not_a_pair_stops_the_run_before_it_begins(folder: Path) -> None:
    (folder / "val.jsonl").write_text('{"text": "abc=cba"}\n{"text": "abc"}\n')
    with pytest.raises(gptzoo.DataError, match="batching 'pairs', val split, document 2: no separator '='"):
        gptzoo.train(run_spec(folder, steps=1), folder / "run", quiet=True)


@pytest.mark.slow
def test_it_learns_to_reverse_held_out_strings(folder: Path, words: tuple[list[str], list[str]]) -> None:
    gptzoo.train(run_spec(folder), folder / "run", quiet=True)
    assert fraction_reversed(gptzoo.load(folder / "run"), words[1]) > 0.99
    options = ["--prompt", "abcdefg=", "--temperature", "0", "--max-new-tokens", "12"]
    command = [sys.executable, "-m", "gptzoo", "sample", str(folder / "run"), *options]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output == "abcdefg=gfedcba\n"

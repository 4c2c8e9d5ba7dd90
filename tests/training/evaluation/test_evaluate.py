"""What held-out text says of a saved model, against sums made by hand and against the run's own figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import admit

import gptzoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.component import Config
from gptzoo.data.corpora.text import TextCorpus
from gptzoo.data.token_store import prepare
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.errors import DataError, FolderError, InputError, SpecError
from gptzoo.training.evaluation.evaluate import RandomBatches, evaluate
from gptzoo.training.evaluation.full_pass import compute_likelihood


def text_corpus(file: Path) -> Config:
    return TextCorpus.Config(type="text", path=str(file), val_path=str(file))


@pytest.fixture
def run(run_spec: dict[str, Any], tmp_path: Path) -> Path:
    run_spec |= {"checkpoint": {"every": 5, "keep": 3, "best": True}, "ema_decay": 0.5}
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    return tmp_path / "run"


def metrics(run: Path) -> dict[int, dict[str, float]]:
    return {row["step"]: row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())}


@pytest.mark.parametrize("batching", ["windows", "packed"])
def test_a_checkpoint_measures_what_its_run_measured_to_the_bit(
    run_spec: dict[str, Any], tmp_path: Path, batching: str
) -> None:
    run_spec |= {"batching": batching, "checkpoint": {"every": 5, "keep": 3}}
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    rows = metrics(tmp_path / "run")
    for step in (5, 10, None):
        found = evaluate(tmp_path / "run", step=step)
        row = rows[step or 12]
        assert found.likelihood.loss == row["val/loss"]
        assert found.likelihood.bits_per_byte == row["val/bits_per_byte"]
    assert found.batching == batching


def test_the_full_pass_is_the_mean_over_every_token_but_the_first(run: Path, tmp_path: Path) -> None:
    text = "one two three. red green blue!" * 3 + "~"
    (tmp_path / "held out.txt").write_text(text)
    found = evaluate(run, text_corpus(tmp_path / "held out.txt")).likelihood
    model = gptzoo.load(run).model
    ids = list(text.encode())
    nats = 0.0
    for start in range(0, len(ids) - 1, 16):
        tokens = torch.tensor([ids[start : start + 17]])
        logits, _ = model(tokens[:, :-1])
        nats += torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:], reduction="sum").item()
    assert (found.n_tokens, found.n_bytes) == (len(ids) - 1, len(ids) - 1)
    assert found.loss == pytest.approx(nats / (len(ids) - 1), rel=1e-6)
    assert found.perplexity == pytest.approx(math.exp(found.loss))
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2))  # a byte is a token here


def test_it_depends_neither_on_a_batch_size_nor_on_the_generator(run: Path) -> None:
    loaded = gptzoo.load(run)
    spec = gptzoo.load_run_spec(run / "run.json")
    tokenizer, store = prepare(spec.corpus.build(), spec.tokenizer)
    batching = spec.batching.build(store, tokenizer, 16, spec.seed)
    losses = []
    for size in (16, 48, 1024):
        torch.rand(size)
        losses.append(compute_likelihood(loaded.model, batching.val(size), n_bytes=batching.val_bytes).loss)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    torch.rand(3)
    assert evaluate(run) == evaluate(run)


def test_bits_per_byte_compare_tokenizers_and_nats_per_token_do_not(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """Of a model that knows nothing: log2 of the vocabulary for each token, spread over the bytes of the text."""
    (tmp_path / "held out.txt").write_text("red runs and blue sleeps. " * 20)
    for tokenizer in ("byte", {"type": "bpe", "vocab_size": 300}):
        out = tmp_path / str(len(str(tokenizer)))
        gptzoo.train({**run_spec, "tokenizer": tokenizer, "steps": 1}, out, quiet=True)
        last = out / "checkpoints" / "step-00000001"
        saved = gptzoo.load(last)
        with torch.no_grad():
            for parameter in saved.model.parameters():
                parameter.zero_()
        save_model(out / "blank", saved.model, saved.tokenizer)
        found = evaluate(out / "blank", text_corpus(tmp_path / "held out.txt")).likelihood
        size = saved.spec.vocab_size
        assert found.loss == pytest.approx(math.log(size), rel=1e-5)
        assert found.bits_per_byte == pytest.approx(math.log2(size) * found.n_tokens / found.n_bytes, rel=1e-5)
        assert found.n_bytes >= found.n_tokens


def test_averages_best_and_the_other_split_are_measured_if_they_are_asked_for(run: Path) -> None:
    rows = metrics(run)
    assert evaluate(run, averaged=True).likelihood.loss == rows[12]["val/ema_loss"]
    assert evaluate(run, step=10).likelihood.loss == rows[10]["val/loss"]
    train, val = evaluate(run, split="train").likelihood, evaluate(run).likelihood
    n_bytes = Path(json.loads((run / "run.json").read_text())["corpus"]["path"]).stat().st_size
    assert train.n_tokens + val.n_tokens == n_bytes - 2
    assert train.n_tokens > 8 * val.n_tokens
    with pytest.raises(FolderError, match="no checkpoint of step 7; steps with a checkpoint: 5, 10, 12"):
        evaluate(run, step=7)
    assert evaluate(run, best=True).likelihood.loss == min(
        row["val/loss"] for row in rows.values() if "val/loss" in row
    )


def test_random_batches_are_nanogpts_protocol(run: Path) -> None:
    protocol = RandomBatches(batches=7, batch_size=3, seed=5)
    found = evaluate(run, protocol=protocol)
    assert found == evaluate(run, protocol=protocol)
    assert found.likelihood.n_tokens == 7 * 3 * 16
    assert (
        found.likelihood.loss != evaluate(run, protocol=RandomBatches(batches=7, batch_size=3, seed=6)).likelihood.loss
    )
    many = evaluate(run, protocol=RandomBatches(batches=60, batch_size=64)).likelihood
    assert many.loss == pytest.approx(evaluate(run).likelihood.loss, rel=0.02)


def test_tokens_that_were_prepared_are_measured_on_unless_they_are_of_another_tokenizer(
    run: Path, text_file: Path
) -> None:
    corpus = TextCorpus.Config(type="text", path=str(text_file))
    _, same = prepare(corpus.build(), ByteTokenizer.Config(type="byte"))
    assert same.folder is not None
    assert evaluate(run, same.folder).likelihood == evaluate(run).likelihood
    char = gptzoo.registered("tokenizer")["char"].Config(type="char")
    _, other = prepare(corpus.build(), char)
    assert other.folder is not None
    with pytest.raises(DataError, match=r"another tokenizer \('char'\) than the model's \('byte'\)"):
        evaluate(run, other.folder)
    data = bytearray((same.folder / "val.bin").read_bytes())
    data[3] ^= 1
    (same.folder / "val.bin").write_bytes(data)
    with pytest.raises(FolderError, match="or damaged ones"):
        evaluate(run, same.folder)


def test_data_that_is_not_what_the_run_was_trained_on_is_not_measured_unasked(run: Path, text_file: Path) -> None:
    before = evaluate(run).likelihood
    text_file.write_text(text_file.read_text().replace("cat", "cow"))
    with pytest.raises(FolderError, match="the data is not that which the run was trained on"):
        evaluate(run)
    found = evaluate(run, TextCorpus.Config(type="text", path=str(text_file))).likelihood
    assert found.loss != before.loss


class Pairs(gptzoo.Batching):
    """Gives what a decoder has no use for."""

    name = "pairs"
    provided_inputs = frozenset({"sources"})


def test_what_cannot_be_measured_is_told(tmp_path: Path, fresh_registry: Any, run: Path, text_file: Path) -> None:
    spec = {"vocab_size": 257, "context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}
    model = gptzoo.build(spec)
    save_model(tmp_path / "bare", model)
    save_model(tmp_path / "model", model, ByteTokenizer(ByteTokenizer.Config(type="byte")))
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        evaluate(tmp_path / "bare", text_corpus(text_file))
    with pytest.raises(InputError, match="say on what text it is to be measured: --data"):
        evaluate(tmp_path / "model")
    with pytest.raises(FolderError, match="is a single model"):
        evaluate(tmp_path / "model", text_corpus(text_file), best=True)
    admit(Pairs)
    with pytest.raises(SpecError, match=r"\$\.batching: 'pairs' gives sources, which architecture 'decoder' does not"):
        evaluate(run, batching=Pairs.Config(type="pairs"))
    assert np.isfinite(evaluate(tmp_path / "model", text_corpus(text_file)).likelihood.loss)

"""Evaluation of saved models, compared with explicit sums and with the metrics of the run."""

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
from gptzoo.data.prepare import prepare
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.errors import DataError, FolderError, InputError, SpecError
from gptzoo.training.evaluation.evaluate import RandomBatches, evaluate
from gptzoo.training.evaluation.full_pass import measure


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
def test_a_checkpoint_has_bitwise_the_loss_of_its_run(run_spec: dict[str, Any], tmp_path: Path, batching: str) -> None:
    run_spec |= {"batching": batching, "checkpoint": {"every": 5, "keep": 3}}
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    rows = metrics(tmp_path / "run")
    for step in (5, 10, None):
        evaluation = evaluate(tmp_path / "run", step=step)
        row = rows[step or 12]
        assert evaluation.likelihood.loss == row["val/loss"]
        assert evaluation.likelihood.bits_per_byte == row["val/bits_per_byte"]
    assert evaluation.batching == batching


def test_the_full_pass_is_the_mean_over_all_tokens_but_the_first(run: Path, tmp_path: Path) -> None:
    text = "one two three. red green blue!" * 3 + "~"
    (tmp_path / "held out.txt").write_text(text)
    likelihood = evaluate(run, text_corpus(tmp_path / "held out.txt")).likelihood
    model = gptzoo.load(run).model
    ids = list(text.encode())
    nats = 0.0
    for start in range(0, len(ids) - 1, 16):
        tokens = torch.tensor([ids[start : start + 17]])
        logits, _ = model(tokens[:, :-1])
        nats += torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:], reduction="sum").item()
    assert (likelihood.n_tokens, likelihood.n_bytes) == (len(ids) - 1, len(ids))
    assert likelihood.loss == pytest.approx(nats / (len(ids) - 1), rel=1e-6)
    assert likelihood.perplexity == pytest.approx(math.exp(likelihood.loss))
    assert likelihood.bits_per_byte == pytest.approx(nats / math.log(2) / len(ids), rel=1e-6)


def test_the_full_pass_depends_on_no_batch_size_and_no_generator(run: Path) -> None:
    loaded = gptzoo.load(run)
    spec = gptzoo.load_run_spec(run / "run.json")
    tokenizer, store = prepare(spec.corpus.build(), spec.tokenizer)
    batching = spec.batching.build(store, tokenizer, 16, spec.seed)
    losses = []
    for size in (16, 48, 1024):
        torch.rand(size)
        losses.append(
            measure(loaded.model, batching.validation_batches(size), n_bytes=batching.val_bytes).likelihood.loss
        )
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    torch.rand(3)
    assert evaluate(run) == evaluate(run)


def test_bits_per_byte_are_the_loss_spread_over_the_bytes_of_the_text(run_spec: dict[str, Any], tmp_path: Path) -> None:
    """A uniform prediction costs log2 of the vocabulary size for each token."""
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
        likelihood = evaluate(out / "blank", text_corpus(tmp_path / "held out.txt")).likelihood
        size = saved.spec.vocab_size
        assert likelihood.loss == pytest.approx(math.log(size), rel=1e-5)
        assert likelihood.bits_per_byte == pytest.approx(
            math.log2(size) * likelihood.n_tokens / likelihood.n_bytes, rel=1e-5
        )
        assert likelihood.n_bytes >= likelihood.n_tokens


def test_the_ema_other_checkpoints_and_the_training_split_can_be_evaluated(run: Path) -> None:
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


def test_random_batches_follow_nanogpts_protocol(run: Path) -> None:
    protocol = RandomBatches(batches=7, batch_size=3, seed=5)
    evaluation = evaluate(run, protocol=protocol)
    assert evaluation == evaluate(run, protocol=protocol)
    assert evaluation.likelihood.n_tokens == 7 * 3 * 16
    assert (
        evaluation.likelihood.loss
        != evaluate(run, protocol=RandomBatches(batches=7, batch_size=3, seed=6)).likelihood.loss
    )
    many = evaluate(run, protocol=RandomBatches(batches=60, batch_size=64)).likelihood
    assert many.loss == pytest.approx(evaluate(run).likelihood.loss, rel=0.02)


def test_prepared_tokens_can_be_evaluated_unless_they_are_from_another_tokenizer(run: Path, text_file: Path) -> None:
    corpus = TextCorpus.Config(type="text", path=str(text_file))
    _, store = prepare(corpus.build(), ByteTokenizer.Config(type="byte"))
    assert store.folder is not None
    assert evaluate(run, store.folder).likelihood == evaluate(run).likelihood
    char = gptzoo.registered("tokenizer")["char"].Config(type="char")
    _, other_store = prepare(corpus.build(), char)
    assert other_store.folder is not None
    with pytest.raises(DataError, match=r"another tokenizer \('char'\) than the model's \('byte'\)"):
        evaluate(run, other_store.folder)
    data = bytearray((store.folder / "val.bin").read_bytes())
    data[3] ^= 1
    (store.folder / "val.bin").write_bytes(data)
    with pytest.raises(FolderError, match="or damaged ones"):
        evaluate(run, store.folder)


def test_changed_data_of_the_run_must_be_given_explicitly(run: Path, text_file: Path) -> None:
    before = evaluate(run).likelihood
    text_file.write_text(text_file.read_text().replace("cat", "cow"))
    with pytest.raises(FolderError, match="the data has changed since the run was trained"):
        evaluate(run)
    likelihood = evaluate(run, TextCorpus.Config(type="text", path=str(text_file))).likelihood
    assert likelihood.loss != before.loss


class Pairs(gptzoo.Batching):
    """A batching with an input that a decoder does not accept."""

    name = "pairs"
    provided_inputs = frozenset({"sources"})


def test_impossible_evaluations_are_rejected(tmp_path: Path, fresh_registry: Any, run: Path, text_file: Path) -> None:
    spec = {"vocab_size": 257, "context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}
    model = gptzoo.build(spec)
    save_model(tmp_path / "bare", model)
    save_model(tmp_path / "model", model, ByteTokenizer(ByteTokenizer.Config(type="byte")))
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        evaluate(tmp_path / "bare", text_corpus(text_file))
    with pytest.raises(InputError, match=r"has no data. Give some with --data"):
        evaluate(tmp_path / "model")
    with pytest.raises(FolderError, match="is a single model"):
        evaluate(tmp_path / "model", text_corpus(text_file), best=True)
    admit(Pairs)
    with pytest.raises(
        SpecError, match=r"\$\.batching: 'pairs' provides sources, which architecture 'decoder' does not"
    ):
        evaluate(run, batching=Pairs.Config(type="pairs"))
    assert np.isfinite(evaluate(tmp_path / "model", text_corpus(text_file)).likelihood.loss)

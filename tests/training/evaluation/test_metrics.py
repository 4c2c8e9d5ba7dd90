"""Metrics that a batching declares: counted in a run, by `evaluate`, and by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from runs import rows
from support import admit
from toy_task import Echo, echo_run

import gptzoo
from gptzoo import registry
from gptzoo.cli import main
from gptzoo.data.batching.batching import Batching
from gptzoo.data.corpora.text import TextCorpus
from gptzoo.data.prepare import prepare
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.model import head as head_module
from gptzoo.training.evaluation.full_pass import measure


@pytest.fixture(autouse=True)
def echo(fresh_registry: registry.Registry) -> None:
    admit(Echo)


def batching_of(spec: gptzoo.RunSpec) -> Batching:
    tokenizer, store = prepare(spec.corpus.build(), spec.tokenizer)
    batching: Batching = spec.batching.build(store, tokenizer, spec.model.context_length, spec.seed)
    return batching


def direct_counts(model: Any, corpus: Any) -> tuple[float, int, int]:
    """Return the mean loss, the right answers and the number asked, computed sample by sample."""
    nats, right, asked = 0.0, 0, 0
    for index in range(corpus.n_samples("val")):
        tokens, targets = corpus.sample("val", index)
        logits = model(torch.from_numpy(tokens)[None])[0][0].double()
        for position in np.flatnonzero(targets != gptzoo.IGNORED_TARGET):
            nats -= float(logits[position].log_softmax(-1)[targets[position]])
            right += int(logits[position].argmax()) == targets[position]
            asked += 1
    return nats / asked, right, asked


def test_a_run_records_the_metrics_of_the_corpus_and_of_its_levels(tmp_path: Path) -> None:
    spec = gptzoo.load_run_spec(echo_run())
    result = gptzoo.train(spec, tmp_path / "run", quiet=True)
    model = gptzoo.load(tmp_path / "run").model
    corpus = spec.corpus.build()
    last = result.metrics
    for prefix, of in {"val": corpus, **{f"val/{k}": v for k, v in corpus.evaluation_sets().items()}}.items():
        with torch.no_grad():
            loss, right, asked = direct_counts(model, of)
        assert last[f"{prefix}/loss"] == pytest.approx(loss, rel=1e-5)
        assert last[f"{prefix}/accuracy"] == right / asked
    assert all("val/long/accuracy" in row for row in rows(tmp_path / "run") if "val/loss" in row)
    assert [row["tokens"] for row in rows(tmp_path / "run")[1:]] == [64, 128, 192, 256]
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["chance"] == {"accuracy": 1 / 6}
    assert environment["held_out"]["documents"] == 21


@pytest.mark.parametrize(("max_tokens", "chunk"), [(1, 2**24), (24, 2**24), (16384, 7 * 5), (16384, 2**24)])
def test_metrics_depend_on_no_batch_size_and_no_chunk_of_the_head(
    max_tokens: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "_max_chunk_logits", lambda device: chunk)
    spec = gptzoo.load_run_spec(echo_run())
    model = gptzoo.build(spec.model.model_copy(update={"vocab_size": 6}), seed=2).eval()
    batching = batching_of(spec)
    measurement = measure(model, batching.validation_batches(max_tokens), n_bytes=batching.val_bytes, scorer=batching)
    with torch.no_grad():
        loss, right, asked = direct_counts(model, spec.corpus.build())
    accuracy = measurement.metrics["accuracy"]
    assert (accuracy.hits, accuracy.n) == (right, asked)
    assert measurement.likelihood.loss == pytest.approx(loss, rel=1e-5)
    assert measurement.likelihood.n_tokens == asked


def test_two_ranks_count_the_same(tmp_path: Path) -> None:
    """Each rank has its own batches, and the counts are summed."""
    from gptzoo.training.distributed.ranks import Ranks

    class HalfOfTwo(Ranks):
        def all_reduce_sum(self, *values: float) -> tuple[float, ...]:
            collected.append(values)
            return values

        def raise_on_all_ranks(self, error: Exception | None, number: int = 0) -> int:
            assert error is None
            return number

    collected: list[tuple[float, ...]] = []
    spec = gptzoo.load_run_spec(echo_run())
    model = gptzoo.build(spec.model.model_copy(update={"vocab_size": 6}), seed=2).eval()
    batching = batching_of(spec)
    for rank in range(2):
        batches = batching.validation_batches(24)
        measure(model, batches, n_bytes=1, scorer=batching, ranks=HalfOfTwo(rank, 2))
    whole = measure(model, batching.validation_batches(24), n_bytes=1, scorer=batching)
    nats, n_targets, right, asked = np.sum(collected, axis=0)
    assert (int(right), int(asked)) == (whole.metrics["accuracy"].hits, whole.metrics["accuracy"].n)
    assert nats == pytest.approx(whole.likelihood.nats)
    assert int(n_targets) == whole.likelihood.n_tokens


def test_a_metric_that_fails_raises_its_own_error_after_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def hits(self: Echo, sample: gptzoo.Sample, predictions: Any) -> Any:
        asked.append(sample)
        raise KeyError("no such answer")

    monkeypatch.setattr(Echo, "hits", hits)
    spec = gptzoo.load_run_spec(echo_run())
    model = gptzoo.build(spec.model.model_copy(update={"vocab_size": 6}), seed=2).train()
    batching = batching_of(spec)
    with pytest.raises(KeyError, match="no such answer"):
        measure(model, batching.validation_batches(24), n_bytes=1, scorer=batching)
    assert len(asked) == 1
    assert model.training


def test_evaluate_gives_the_metrics_of_the_run_with_intervals(tmp_path: Path) -> None:
    result = gptzoo.train(echo_run(), tmp_path / "run", quiet=True)
    evaluation = gptzoo.evaluate(tmp_path / "run", device="cpu").as_dict()
    accuracy = evaluation["metrics"]["accuracy"]
    assert accuracy["value"] == result.metrics["val/accuracy"]
    assert accuracy["n"] == 21 * 4
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert evaluation["chance"] == {"accuracy": 1 / 6}
    assert evaluation["sets"]["long"]["metrics"]["accuracy"]["value"] == result.metrics["val/long/accuracy"]
    assert evaluation["sets"]["long"]["loss"] == pytest.approx(result.metrics["val/long/loss"])
    assert evaluation["loss"] == pytest.approx(result.metrics["val/loss"])
    train = gptzoo.evaluate(tmp_path / "run", split="train", device="cpu")
    assert train.metrics["accuracy"].n == 60 * 4
    assert train.sets == {}


def test_prepared_text_is_evaluated_without_the_levels_of_the_run(tmp_path: Path) -> None:
    """The text has the characters of the task, and the model reads it as any text, in windows."""
    gptzoo.train(echo_run(), tmp_path / "run", quiet=True)
    characters = "".join(gptzoo.load_run_spec(echo_run()).corpus.build().alphabet())
    (tmp_path / "text.txt").write_text(characters * 200)
    corpus = TextCorpus.Config(type="text", path=str(tmp_path / "text.txt")).build()
    _, store = prepare(corpus, CharTokenizer.Config(type="char"))
    evaluation = gptzoo.evaluate(tmp_path / "run", store.folder, device="cpu")
    assert evaluation.batching == "windows"
    assert evaluation.likelihood.n_tokens == len(store.val) - 1
    assert evaluation.sets == evaluation.metrics == evaluation.chance == {}


def test_the_command_prints_accuracy_beside_chance_and_levels(tmp_path: Path) -> None:
    gptzoo.train(echo_run(), tmp_path / "run", quiet=True)
    output = CliRunner().invoke(main, ["eval", str(tmp_path / "run"), "--device", "cpu"]).output
    assert re.search(
        r"accuracy +\d+\.\d\d% \(\d+\.\d\d% to \d+\.\d\d%, \d+ of 84\), (above|not d.*|below) .*16.67%", output
    )
    assert re.search(r"long +loss \d\.\d+, accuracy .* of 100\)", output)
    longer = '{"type": "echo", "length": 30, "n_val": 4}'
    done = CliRunner().invoke(main, ["eval", str(tmp_path / "run"), "--data", longer, "--json", "--device", "cpu"])
    evaluation = json.loads(done.output)
    assert evaluation["window"] == 30
    assert evaluation["metrics"]["accuracy"]["n"] == 4 * 15
    refused = CliRunner().invoke(main, ["eval", str(tmp_path / "run"), "--window", "4", "--device", "cpu"])
    assert "corpus 'echo' generates samples. Use the full pass" in refused.output
    assert refused.exit_code == 2


def test_a_task_and_a_text_are_evaluated_by_their_own_batching(tmp_path: Path) -> None:
    gptzoo.train(echo_run(), tmp_path / "run", quiet=True)
    with pytest.raises(gptzoo.DataError, match=r"has no token for"):
        gptzoo.evaluate(tmp_path / "run", registry.current().get("corpus", "stories").Config(type="stories"))


def test_levels_that_are_longer_than_the_model_are_refused_before_training(tmp_path: Path) -> None:
    model = {**echo_run()["model"], "positional": "learned"}
    with pytest.raises(
        gptzoo.DataError, match=r"level 'long' of corpus 'echo': its samples of 20 tokens are longer than"
    ):
        gptzoo.train(echo_run(model=model), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "run.json").exists()
    gptzoo.train(echo_run(model=model, corpus="echo", steps=1), tmp_path / "run", quiet=True)
    longer = Echo.Config(type="echo", length=9)
    with pytest.raises(
        gptzoo.DataError, match=r"corpus 'echo': its samples of 9 tokens are longer than the 8 positions"
    ):
        gptzoo.evaluate(tmp_path / "run", longer, device="cpu")


def test_an_architecture_with_another_head_is_refused(tmp_path: Path) -> None:
    class OwnHead(gptzoo.Decoder):
        """A decoder whose loss is not that of gptzoo's head."""

        name = "own_head"

        def forward(self, tokens: Any, targets: Any = None, **options: Any) -> Any:  # type: ignore[override]
            options.pop("auxiliary", None)
            logits, _ = super().forward(tokens, **options)
            if targets is None:
                return logits, None
            return None, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    admit(OwnHead, plugin="own")
    model = {**echo_run()["model"], "architecture": "own_head"}
    with pytest.raises(
        gptzoo.InputError, match=r"accuracy: gptzoo's output head computes .* 'own_head' has another head"
    ):
        gptzoo.train(echo_run(model=model), tmp_path / "run", quiet=True)


def test_a_resumed_run_has_the_same_metrics(tmp_path: Path) -> None:
    gptzoo.train(echo_run(micro_batch_size=2), tmp_path / "whole", quiet=True)
    gptzoo.train(echo_run(micro_batch_size=2), tmp_path / "paused", until=2, quiet=True)
    gptzoo.train(echo_run(micro_batch_size=2), tmp_path / "paused", resume=True, quiet=True)
    timing = "tokens_per_second"
    whole, paused = (
        [{key: value for key, value in row.items() if key != timing} for row in rows(tmp_path / name)]
        for name in ("whole", "paused")
    )
    assert whole == paused


@pytest.mark.parametrize("size", [1, 2, 8])
def test_training_counts_masked_targets_alike_in_micro_batches_of_any_size(size: int, tmp_path: Path) -> None:
    """The first loss is the mean over the asked tokens of the batch, and so is its gradient."""
    spec = gptzoo.load_run_spec(echo_run(micro_batch_size=size, steps=1, clip_norm=None))
    gptzoo.train(spec, tmp_path / "run", quiet=True)
    model = gptzoo.build(spec.model.model_copy(update={"vocab_size": 6}), seed=spec.seed)
    batch = batching_of(spec).train_batch(0, 8)
    tokens, targets = torch.from_numpy(batch["tokens"]), torch.from_numpy(batch["targets"])
    asked = targets != gptzoo.IGNORED_TARGET
    loss = torch.nn.functional.cross_entropy(model(tokens)[0][asked], targets[asked])
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    row = rows(tmp_path / "run")[1]
    assert row["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert row["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)

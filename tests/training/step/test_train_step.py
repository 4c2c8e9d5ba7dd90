"""A training step: accumulated gradients, clipping, and sublayers that learn after the optimizer step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gptzoo
from gptzoo.data.prepare import prepare
from gptzoo.training.step.micro_batch import split_into_micro_batches
from gptzoo.training.step.train_step import TrainStep
from gptzoo.utils.targets import IGNORED_TARGET

ROWS, LENGTH = 24, 16


@pytest.fixture
def batch() -> dict[str, np.ndarray]:
    """A batch in which some rows have few targets, and one row has a single target."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 61, (ROWS, LENGTH))
    for row in range(0, ROWS, 3):
        targets[row, rng.integers(1, LENGTH) :] = IGNORED_TARGET
    targets[7, 1:] = IGNORED_TARGET
    return {"tokens": rng.integers(0, 61, (ROWS, LENGTH)), "targets": targets}


def train_step_of(vocab_size: int = 61, **changes: Any) -> TrainStep:
    model_spec = {"vocab_size": vocab_size, "context_length": LENGTH, "d_model": 32, "n_layers": 2, "n_heads": 2}
    spec = gptzoo.load_run_spec({"model": model_spec, "steps": 1, "batch_size": ROWS, **changes})
    model = gptzoo.build(spec.model).train()
    return TrainStep(spec, model, dict(model.named_parameters()), device=torch.device("cpu"), precision="fp32")


def gradients(train_step: TrainStep) -> Tensor:
    return torch.cat(
        [parameter.grad.flatten() for parameter in train_step.parameters.values() if parameter.grad is not None]
    )


@pytest.mark.parametrize("size", [1, 2, 3, 8, 12])
def test_loss_and_gradient_do_not_depend_on_the_micro_batch_size(batch: dict[str, np.ndarray], size: int) -> None:
    whole, split = train_step_of(), train_step_of()
    expected = whole.accumulate_gradients(split_into_micro_batches(batch, ROWS), 0)
    actual = split.accumulate_gradients(split_into_micro_batches(batch, size), 0)
    assert actual.metrics["train/loss"].item() == pytest.approx(expected.metrics["train/loss"].item(), rel=1e-6)
    assert actual.norm == pytest.approx(expected.norm, rel=1e-6)
    difference = (gradients(split) - gradients(whole)).norm() / gradients(whole).norm()
    assert difference.item() < 1e-6


VARIANTS: list[dict[str, Any]] = [
    *({"type": name} for name in gptzoo.registered("batching") if name != "samples"),  # it reads no text
    {"type": "windows", "token_dropout": 0.2},
    {"type": "packed", "restart_positions": True},
    {"type": "packed", "mask": False, "token_dropout": 0.2},
]


@pytest.mark.parametrize("batching", VARIANTS, ids=str)
def test_loss_and_gradient_do_not_depend_on_the_micro_batch_size_with_any_batching(
    batching: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of packed documents end in padding, so micro-batches differ in their number of targets."""
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path))
    documents = ["a", "short one", "a longer document than fits into a row, or into two of them", "x" * 5] * 40
    (tmp_path / "text.jsonl").write_text(
        "".join(json.dumps({"text": f"{d} {i}"}) + "\n" for i, d in enumerate(documents))
    )
    corpus = {"type": "jsonl", "path": str(tmp_path / "text.jsonl")}
    train_step = train_step_of(batching=batching, corpus=corpus, vocab_size=257)
    spec = gptzoo.load_run_spec(
        {"model": train_step.model.spec.model_dump(mode="json"), "steps": 1, "corpus": corpus, "batching": batching}
    )
    tokenizer, store = prepare(spec.corpus.build(), spec.tokenizer)
    batch = spec.batching.build(store, tokenizer, LENGTH, 1).train_batch(0, ROWS)
    expected = train_step.accumulate_gradients(split_into_micro_batches(batch, ROWS), 0)
    full_gradients = gradients(train_step)
    for size in (1, 5, 8):
        train_step.zero_grad()
        micro_batches = split_into_micro_batches(batch, size)
        actual = train_step.accumulate_gradients(micro_batches, 0)
        assert actual.metrics["train/loss"].item() == pytest.approx(expected.metrics["train/loss"].item(), rel=1e-6)
        assert ((gradients(train_step) - full_gradients).norm() / full_gradients.norm()).item() < 1e-6
    if batching["type"] == "packed":
        assert (batch["targets"] == IGNORED_TARGET).any()
        assert len({micro_batch.n_targets for micro_batch in micro_batches}) > 1


def test_the_gradient_is_that_of_the_mean_loss_over_all_targets(batch: dict[str, np.ndarray]) -> None:
    ours = train_step_of()
    ours.accumulate_gradients(split_into_micro_batches(batch, 5), 0)
    reference = train_step_of()
    logits, _ = reference.model(torch.from_numpy(batch["tokens"]))
    assert logits is not None
    targets = torch.from_numpy(batch["targets"]).flatten()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=IGNORED_TARGET).backward()
    torch.testing.assert_close(gradients(ours), gradients(reference))


def test_a_gradient_is_clipped_to_clip_norm(batch: dict[str, np.ndarray]) -> None:
    sgd = {"optimizer": {"type": "sgd", "lr": 1.0, "momentum": 0.0}}
    updates = []
    for clip_norm in (None, 0.01):
        train_step = train_step_of(clip_norm=clip_norm, **sgd)
        before = torch.cat([p.detach().flatten().clone() for p in train_step.parameters.values()])
        gradient = train_step.accumulate_gradients(split_into_micro_batches(batch, ROWS), 0)
        train_step.clip_gradients(gradient.total_norm)
        train_step.optimizer_step()
        updates.append(torch.cat([p.detach().flatten() for p in train_step.parameters.values()]) - before)
    torch.testing.assert_close(updates[0].norm().item(), gradient.norm, rtol=1e-4, atol=0)
    torch.testing.assert_close(updates[1], updates[0] * (0.01 / gradient.norm), rtol=1e-3, atol=1e-7)


def test_sublayers_get_their_own_metrics_after_the_optimizer_step(
    batch: dict[str, np.ndarray], tmp_path: Path, fresh_registry: Any
) -> None:
    file = tmp_path / "balanced.py"
    file.write_text(PLUGIN)
    gptzoo.load_plugin(file)
    model_spec = {"vocab_size": 61, "context_length": LENGTH, "d_model": 32, "n_layers": 2, "n_heads": 2}
    spec = gptzoo.load_run_spec({"model": {**model_spec, "ffn": "balanced"}, "steps": 1, "batch_size": ROWS})
    model = gptzoo.build(spec.model).train()
    train_step = TrainStep(spec, model, dict(model.named_parameters()), device=torch.device("cpu"), precision="fp32")
    gradient = train_step.accumulate_gradients(split_into_micro_batches(batch, 8), 0)
    train_step.optimizer_step()
    assert [block.ffn.received for block in model.blocks] == [{}, {}]
    train_step.update_sublayers(gradient.metrics)
    for layer, block in enumerate(model.blocks):
        assert block.ffn.received.keys() == {"load"}
        torch.testing.assert_close(block.ffn.received["load"], gradient.metrics[f"model/blocks.{layer}.ffn.load"])


PLUGIN = """
import gptzoo

class Balanced(gptzoo.FeedForward):
    '''Returns a list as a metric and stores what it receives after the step.'''
    name = "balanced"

    def __init__(self, config, dims):
        super().__init__(config, dims)
        self.received = {}

    def forward(self, x, context, state=None):
        return gptzoo.SublayerOutput(x * 0.5, metrics={"load": x.detach().mean((0, 1))[:3]})

    def after_optimizer_step(self, metrics):
        self.received = dict(metrics)

@gptzoo.hookimpl
def gptzoo_components():
    return [Balanced]
"""

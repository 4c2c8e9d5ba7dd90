"""One update: a gradient that does not depend on how the batch is cut, and what comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gptzoo
from gptzoo.data.token_store import prepare
from gptzoo.model.head import IGNORE
from gptzoo.training.step.train_step import Update, micro_batches, n_targets

ROWS, LENGTH = 24, 16


@pytest.fixture
def batch() -> dict[str, np.ndarray]:
    """Rows of which some have few targets that count, and one has a single one."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 61, (ROWS, LENGTH))
    for row in range(0, ROWS, 3):
        targets[row, rng.integers(1, LENGTH) :] = IGNORE
    targets[7, 1:] = IGNORE
    return {"tokens": rng.integers(0, 61, (ROWS, LENGTH)), "targets": targets}


def update(vocab_size: int = 61, **changes: Any) -> Update:
    model = {"vocab_size": vocab_size, "context_length": LENGTH, "d_model": 32, "n_layers": 2, "n_heads": 2}
    spec = gptzoo.load_run_spec({"model": model, "steps": 1, "batch_size": ROWS, **changes})
    built = gptzoo.build(spec.model).train()
    return Update(spec, built, dict(built.named_parameters()), device=torch.device("cpu"), precision="fp32")


def gradients(of: Update) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in of.parameters.values() if parameter.grad is not None])


@pytest.mark.parametrize("size", [1, 2, 3, 8, 12])
def test_loss_and_gradient_do_not_depend_on_the_micro_batch_size(batch: dict[str, np.ndarray], size: int) -> None:
    whole, cut = update(), update()
    expected = whole.gradient(micro_batches(batch, ROWS), 0)
    found = cut.gradient(micro_batches(batch, size), 0)
    assert found.measured["train/loss"].item() == pytest.approx(expected.measured["train/loss"].item(), rel=1e-6)
    assert found.norm == pytest.approx(expected.norm, rel=1e-6)
    difference = (gradients(cut) - gradients(whole)).norm() / gradients(whole).norm()
    assert difference.item() < 1e-6


VARIANTS: list[dict[str, Any]] = [
    *({"type": name} for name in gptzoo.registered("batching")),
    {"type": "windows", "token_dropout": 0.2},
    {"type": "packed", "restart_positions": True},
    {"type": "packed", "mask": False, "token_dropout": 0.2},
]


@pytest.mark.parametrize("batching", VARIANTS, ids=str)
def test_nor_do_they_with_any_batching(
    batching: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of packed documents end in padding, so micro-batches have different numbers of targets."""
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path))
    documents = ["a", "short one", "a longer document than fits into a row, or into two of them", "x" * 5] * 40
    (tmp_path / "text.jsonl").write_text(
        "".join(json.dumps({"text": f"{d} {i}"}) + "\n" for i, d in enumerate(documents))
    )
    corpus = {"type": "jsonl", "path": str(tmp_path / "text.jsonl")}
    one = update(batching=batching, corpus=corpus, vocab_size=257)
    spec = gptzoo.load_run_spec(
        {"model": one.model.spec.model_dump(mode="json"), "steps": 1, "corpus": corpus, "batching": batching}
    )
    tokenizer, store = prepare(spec.corpus.build(), spec.tokenizer)
    batch = spec.batching.build(store, tokenizer, LENGTH, 1).train(0, ROWS)
    expected = one.gradient(micro_batches(batch, ROWS), 0)
    whole = gradients(one)
    for size in (1, 5, 8):
        one.discard()
        parts = micro_batches(batch, size)
        found = one.gradient(parts, 0)
        assert found.measured["train/loss"].item() == pytest.approx(expected.measured["train/loss"].item(), rel=1e-6)
        assert ((gradients(one) - whole).norm() / whole.norm()).item() < 1e-6
    if batching["type"] == "packed":
        assert (batch["targets"] == IGNORE).any()
        assert len({part.n_targets for part in parts}) > 1


def test_the_gradient_is_that_of_the_mean_over_all_targets_that_count(batch: dict[str, np.ndarray]) -> None:
    ours = update()
    ours.gradient(micro_batches(batch, 5), 0)
    theirs = update()
    logits, _ = theirs.model(torch.from_numpy(batch["tokens"]))
    assert logits is not None
    targets = torch.from_numpy(batch["targets"]).flatten()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=IGNORE).backward()
    torch.testing.assert_close(gradients(ours), gradients(theirs))


def test_a_gradient_longer_than_clip_norm_is_shortened_to_it(batch: dict[str, np.ndarray]) -> None:
    learning = {"optimizer": {"type": "sgd", "lr": 1.0, "momentum": 0.0}}
    free, clipped = update(clip_norm=None, **learning), update(clip_norm=0.01, **learning)
    moved = []
    for one in (free, clipped):
        before = torch.cat([p.detach().flatten().clone() for p in one.parameters.values()])
        gradient = one.gradient(micro_batches(batch, ROWS), 0)
        one.apply(gradient, 1.0)
        moved.append(torch.cat([p.detach().flatten() for p in one.parameters.values()]) - before)
    torch.testing.assert_close(moved[0].norm().item(), gradient.norm, rtol=1e-4, atol=0)
    torch.testing.assert_close(moved[1], moved[0] * (0.01 / gradient.norm), rtol=1e-3, atol=1e-7)


def test_micro_batches_are_the_batch_in_order(batch: dict[str, np.ndarray]) -> None:
    parts = micro_batches(batch, 5)
    assert [len(part.inputs["tokens"]) for part in parts] == [5, 5, 5, 5, 4]
    for name, array in batch.items():
        assert np.array_equal(np.concatenate([part.inputs[name].numpy() for part in parts]), array)
    assert sum(part.n_targets for part in parts) == n_targets(batch) == int((batch["targets"] >= 0).sum())


def test_components_that_learn_after_the_update_get_what_they_measured(
    batch: dict[str, np.ndarray], tmp_path: Path, fresh_registry: Any
) -> None:
    file = tmp_path / "balanced.py"
    file.write_text(LEARNER)
    gptzoo.load_plugin(file)
    model = {"vocab_size": 61, "context_length": LENGTH, "d_model": 32, "n_layers": 2, "n_heads": 2, "ffn": "balanced"}
    spec = gptzoo.load_run_spec({"model": model, "steps": 1, "batch_size": ROWS})
    built = gptzoo.build(spec.model).train()
    one = Update(spec, built, dict(built.named_parameters()), device=torch.device("cpu"), precision="fp32")
    gradient = one.gradient(micro_batches(batch, 8), 0)
    assert [block.ffn.told for block in built.blocks] == [{}, {}]  # never before the update
    one.apply(gradient, 1.0)
    for layer, block in enumerate(built.blocks):
        assert block.ffn.told.keys() == {"load"}
        torch.testing.assert_close(block.ffn.told["load"], gradient.measured[f"model/blocks.{layer}.ffn.load"])


LEARNER = """
import gptzoo

class Balanced(gptzoo.FeedForward):
    '''Emits a list of numbers and wants it back.'''
    name = "balanced"

    def __init__(self, config, dims):
        super().__init__(config, dims)
        self.told = {}

    def forward(self, x, step, state=None):
        return gptzoo.Emit(x * 0.5, metrics={"load": x.detach().mean((0, 1))[:3]})

    def after_update(self, metrics):
        self.told = dict(metrics)

@gptzoo.hookimpl
def gptzoo_components():
    return [Balanced]
"""

"""Components of plugins in training: extra inputs, metrics, updates after the optimizer step, and spec checks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import admit, small
from torch import Tensor

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.checkpoints import newest_valid_checkpoint


class Accumulator(gptzoo.FeedForward):
    """Returns the mean size of its inputs as a metric, and sums its metrics after each step."""

    name = "accumulator"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.register_buffer("total", torch.empty(2))
        self.register_buffer("updates", torch.empty(1, dtype=torch.int64))

    def initialise(self, rng: Any) -> None:
        self.total.zero_()
        self.updates.zero_()

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: Any = None) -> gptzoo.SublayerOutput:
        size = x.detach().abs().mean()
        return gptzoo.SublayerOutput(x * 0.1, metrics={"size": size, "both": torch.stack([size, 2 * size])})

    def after_optimizer_step(self, metrics: Mapping[str, Tensor]) -> None:
        assert set(metrics) == {"size", "both"}
        self.total += metrics["both"].to(self.total)
        self.updates += 1


class Prefixes(gptzoo.Batching):
    """Windows in which only a prefix of the targets counts; its length differs between rows."""

    name = "prefixes"
    provided_inputs = frozenset({"positions"})

    def __init__(self, config: Any, store: Any, tokenizer: Any, length: int, seed: int):
        super().__init__(config, store, tokenizer, length, seed)
        self.n_samples, self.val_bytes = 1000, 100

    def train_batch(self, first: int, count: int) -> dict[str, np.ndarray]:
        rows = np.stack([self.store.train[5 * n : 5 * n + self.length + 1] for n in range(first, first + count)])
        targets = rows[:, 1:].astype(np.int64)
        for row, n in enumerate(range(first, first + count)):
            targets[row, 1 + n % self.length :] = -100
        positions = np.broadcast_to(np.arange(self.length), targets.shape).copy()
        return {"tokens": rows[:, :-1].astype(np.int64), "targets": targets, "positions": positions}

    def validation_batches(self, max_tokens: int) -> Iterator[dict[str, np.ndarray]]:
        yield self.train_batch(0, 4)


@pytest.fixture(autouse=True)
def _registered(fresh_registry: registry.Registry) -> None:
    admit(Accumulator, Prefixes)


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_sublayer_gets_its_own_metrics_after_each_step(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec["model"]["ffn"] = ["accumulator", "mlp"]
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    checkpoint = newest_valid_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    tensors = load_file(checkpoint / "model.safetensors")
    logged = rows(tmp_path / "run")[1:]
    assert tensors["blocks.0.ffn.updates"].tolist() == [12]
    assert all(row["model/blocks.0.ffn.both"] == [row["model/blocks.0.ffn.size"] * n for n in (1, 2)] for row in logged)
    total = sum(row["model/blocks.0.ffn.size"] for row in logged)
    torch.testing.assert_close(tensors["blocks.0.ffn.total"], torch.tensor([total, 2 * total]))


@pytest.mark.parametrize("micro_batch_size", [1, 4, 16])
def test_a_target_has_the_same_weight_in_every_micro_batch(
    run_spec: dict[str, Any], tmp_path: Path, micro_batch_size: int
) -> None:
    run_spec |= {"batching": "prefixes", "batch_size": 16, "steps": 3}
    run_spec["model"]["dropout"] = 0.0
    gptzoo.train({**run_spec, "micro_batch_size": None}, tmp_path / "whole", quiet=True)
    gptzoo.train({**run_spec, "micro_batch_size": micro_batch_size}, tmp_path / "parts", quiet=True)
    for whole, parts in zip(rows(tmp_path / "whole"), rows(tmp_path / "parts"), strict=True):
        for name in {"train/loss", "grad_norm", "val/loss"} & whole.keys():
            assert parts[name] == pytest.approx(whole[name], rel=1e-5)


class WithPositions(gptzoo.Decoder):
    """An architecture that requires positions."""

    name = "with_positions"
    accepted_inputs = required_inputs = frozenset({"positions"})


class TokensOnly(gptzoo.Decoder):
    """An architecture that accepts only tokens."""

    name = "tokens_only"
    accepted_inputs = frozenset()


def test_inputs_of_batching_and_architecture_are_compared_when_a_spec_is_read(
    run_spec: dict[str, Any],
) -> None:
    admit(WithPositions, TokensOnly, plugin="architectures")
    run_spec["model"]["architecture"] = "with_positions"
    with pytest.raises(gptzoo.SpecError) as caught:
        gptzoo.load_run_spec(run_spec)
    assert str(caught.value) == (
        "spec: $.batching: 'windows' does not provide positions, which architecture 'with_positions' requires"
    )
    run_spec["model"]["architecture"], run_spec["batching"] = "tokens_only", "prefixes"
    with pytest.raises(gptzoo.SpecError) as caught:
        gptzoo.load_run_spec(run_spec)
    assert (
        str(caught.value)
        == "spec: $.batching: 'prefixes' provides positions, which architecture 'tokens_only' does not accept"
    )


class Encoder(gptzoo.Decoder):
    """An architecture without causal mask."""

    name = "encoder"
    requires = frozenset({"noncausal"})


class OneWay(gptzoo.Attention):
    """An attention that is always causal."""

    name = "one_way"
    supports = frozenset({"padding"})


def test_every_attention_must_support_what_an_architecture_requires(fresh_registry: registry.Registry) -> None:
    admit(Encoder, OneWay, plugin="architectures")
    assert gptzoo.load_model_spec(small(architecture="encoder", attention=["sdpa", "naive"]))
    with pytest.raises(gptzoo.SpecError) as caught:
        gptzoo.load_model_spec(small(architecture="encoder", attention=["sdpa", "one_way"], positional="none"))
    assert str(caught.value) == (
        "spec: $.architecture: 'encoder' lets tokens attend to later ones, which attention 'one_way' does not support"
    )


class Louder(gptzoo.Activation):
    """An activation with a parameter of one number."""

    name = "louder"

    def __init__(self, config: Any, width: int):
        super().__init__(config, width)
        self.gain = torch.nn.Parameter(torch.empty(1))

    def initialise(self, rng: Any) -> None:
        torch.nn.init.ones_(self.gain)

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x.relu()


def test_a_parameter_of_one_number_is_resumed(run_spec: dict[str, Any], tmp_path: Path) -> None:
    admit(Louder, plugin="louder")
    run_spec["model"]["activation"] = "louder"
    run_spec["schedule"] = "constant"
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    gptzoo.train({**run_spec, "steps": 14}, tmp_path / "run", extend=True, quiet=True)
    assert rows(tmp_path / "run")[-1]["step"] == 14


def test_packed_documents_need_an_attention_that_masks_them(run_spec: dict[str, Any]) -> None:
    admit(OneWay, plugin="attention")
    run_spec["model"] |= {"attention": ["sdpa", "one_way"], "positional": "none"}
    run_spec["batching"] = "packed"
    with pytest.raises(gptzoo.SpecError) as caught:
        gptzoo.load_run_spec(run_spec)
    assert str(caught.value) == (
        "spec: $.batching: 'packed' provides documents, which attention 'one_way' does not support"
    )
    run_spec["batching"] = {"type": "packed", "mask": False}
    assert gptzoo.load_run_spec(run_spec)

"""Parameters that a training step skips: which models may have some, and DDP with and without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from processes import together
from support import admit, tokens_of
from torch import Tensor
from training.distributed.parallel_runs import DDP, train

import gptzoo
from gptzoo import registry
from gptzoo.spec.run import ParallelSpec
from gptzoo.training.distributed.parallelize import parallelize
from gptzoo.training.distributed.ranks import Ranks
from gptzoo.training.distributed.skipped_parameters import may_skip_parameters
from gptzoo.utils.targets import IGNORED_TARGET


class TakesTurns(gptzoo.FeedForward):
    """Uses one of its two weights, depending on the first token of the batch."""

    name = "takes_turns"
    may_skip_parameters = True

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.weights = torch.nn.ParameterList(torch.empty(dims.d_model, dims.d_model) for _ in range(2))

    def initialise(self, rng: Any) -> None:
        for index, weight in enumerate(self.weights):
            torch.nn.init.normal_(weight, std=0.1, generator=rng(f"weights.{index}"))

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Tensor:
        return x @ self.weights[int(x.detach()[0, 0, 0] > 0)]


class TakesTurnsInSecret(TakesTurns):
    """Does the same without a declaration."""

    name = "takes_turns_in_secret"
    may_skip_parameters = False


def skipped_by(model: Any, tokens: Tensor, targets: Tensor) -> list[str]:
    """Return the parameters that get no gradient in one training step."""
    model.zero_grad()
    model.train()(tokens, targets)[1].backward()
    return [name for name, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("ignored", ["no target", "some targets", "all targets"])
def test_a_model_skips_parameters_if_and_only_if_it_says_so(any_spec: dict[str, Any], ignored: str) -> None:
    model = gptzoo.build(any_spec, seed=1)
    tokens = tokens_of(model, 3, 8)
    targets = tokens.roll(-1, 1)
    targets[{"no target": slice(0), "some targets": slice(1, 2), "all targets": slice(None)}[ignored]] = IGNORED_TARGET
    assert bool(skipped_by(model, tokens, targets)) == may_skip_parameters(model)


def test_a_part_that_skips_parameters_is_found_in_a_model(fresh_registry: registry.Registry) -> None:
    admit(TakesTurns, plugin="takes_turns")
    model = gptzoo.build({**_SMALL, "ffn": ["mlp", "takes_turns"]}, seed=1)
    assert may_skip_parameters(model)
    tokens = tokens_of(model, 3, 8)
    assert len(skipped_by(model, tokens, tokens)) == 1
    assert not may_skip_parameters(gptzoo.build(_SMALL))


_SMALL = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4, "positional": "rope"}


@pytest.mark.parametrize("ffn", ["mlp", "glu", "takes_turns"])
def test_two_replicas_have_the_gradients_of_one_process(
    ffn: str, tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    """Two steps of two micro-batches each; the ranks have different rows, and may use different weights."""
    admit(TakesTurns, plugin="takes_turns")
    steps = torch.randint(13, (2, 2, 2, 3, 9), generator=torch.Generator().manual_seed(2))  # step, part, rank, B, T + 1

    def model() -> Any:
        return gptzoo.build({**_SMALL, "ffn": ffn}, seed=1).double().train()

    def work(rank: int) -> None:
        torch.distributed.init_process_group("gloo")
        parallelized = parallelize(model(), ParallelSpec(replicate=2), Ranks(rank, 2), torch.device("cpu"))
        assert parallelized.forward.find_unused_parameters is (ffn == "takes_turns")  # type: ignore[attr-defined]
        for parts in steps:
            parallelized.model.zero_grad()
            for index, part in enumerate(parts[:, rank]):
                with parallelized.gradient_sync(last=index == 1):
                    parallelized.forward(part[:, :-1], part[:, 1:])[1].backward()
        torch.save({name: p.grad for name, p in parallelized.model.named_parameters()}, tmp_path / f"{rank}")
        torch.distributed.barrier()

    together(2, work, tmp_path)
    one = model()
    for part in steps[-1].flatten(0, 1):
        (one(part[:, :-1], part[:, 1:])[1] / 2).backward()
    for rank in range(2):
        gradients = torch.load(tmp_path / f"{rank}")
        for name, parameter in one.named_parameters():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            actual = torch.zeros_like(parameter) if gradients[name] is None else gradients[name]
            torch.testing.assert_close(actual, expected)


@pytest.mark.slow
def test_a_part_that_skips_parameters_in_secret_is_reported_before_the_update(
    run_spec: dict[str, Any], tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(TakesTurnsInSecret, plugin="takes_turns")
    run_spec |= {"parallel": DDP, "micro_batch_size": None}
    run_spec["model"] |= {"ffn": "takes_turns_in_secret"}
    ended = train(2, run_spec, tmp_path / "run")
    (reported,) = {process.error for process in ended if "takes_turns" in process.error}
    assert reported.startswith("the loss of this step does not depend on blocks.0.ffn.weights.")
    assert "ffn 'takes_turns_in_secret' may skip parameters and must declare it: set may_skip_parameters" in reported
    assert {process.code for process in ended} <= {1, 2}
    assert not list((tmp_path / "run").glob("checkpoints/*"))

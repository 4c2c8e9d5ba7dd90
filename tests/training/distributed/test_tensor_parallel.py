"""Tensor parallelism: training, checkpoints, plans of components, and errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import Ended, together, torchrun
from runs import assert_same_run, before_step, rows
from support import admit, small, with_large_weights
from torch import Tensor, nn
from training.distributed.parallel_runs import LAST, SUCCESS, assert_close, common_error, train

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import load_weights, read_tensors, save_model
from gptzoo.checkpoint.sharded_tensors import write_sharded_file
from gptzoo.components.tensor_parallel import resolve_plan
from gptzoo.training.distributed.ranks import Ranks
from gptzoo.training.distributed.tensor_parallel import apply_tensor_parallel

TWO = {"tensor": 2}
GROUPED = {"type": "sdpa", "n_kv_heads": 2, "qk_norm": "rmsnorm", "dropout": 0.0}
LLAMA = {"attention": GROUPED, "positional": "rope", "norm": "pre_ln", "ffn": {"type": "glu", "d_ff": 24}}


@pytest.fixture
def spec(run_spec: dict[str, Any]) -> dict[str, Any]:
    """A run with dropout, but not of attention weights."""
    run_spec["model"] |= {"n_heads": 4, "attention": {"type": "naive", "dropout": 0.0}}
    return run_spec


def train_tensor_parallel(n: int, spec: dict[str, Any], out: Path, **options: Any) -> list[Ended]:
    return train(n, {**spec, "parallel": TWO}, out, **options)


# ---------------------------------------------------------------------- training


def test_two_tensor_parallel_ranks_train_like_one_process(spec: dict[str, Any], tmp_path: Path) -> None:
    """Losses, gradient norms and update sizes are the same as in one process."""
    spec |= {"steps": 4, "watch": {"every": 2}, "eval": {"every": 4}}
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    assert train_tensor_parallel(2, spec, tmp_path / "two") == [SUCCESS] * 2
    assert_close(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("tied", [True, False])
def test_grouped_queries_and_gated_networks_train_like_in_one_process(
    spec: dict[str, Any], tmp_path: Path, n: int, tied: bool
) -> None:
    """Four ranks are two replicas. With an odd vocabulary size, activation checkpointing and EMA."""
    spec["model"] |= {**LLAMA, "tie_embeddings": tied, "vocab_size": 257}
    spec |= {
        "steps": 20,
        "micro_batch_size": 16,
        "activation_checkpointing": True,
        "ema_decay": 0.9,
        "freeze": ["embed*"],
    }
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    assert train_tensor_parallel(n, spec, tmp_path / "two") == [SUCCESS] * n
    assert_close(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "rel"),
    [
        ({"precision": "bf16"}, 2e-2),
        ({"optimizer": {"type": "muon", "lr": 0.01}, "clip_norm": 0.5}, 2e-3),
        ({"optimizer": {"type": "lion", "lr": 0.001}, "label_smoothing": 0.1, "z_loss": 1e-4}, 1e-4),
    ],
    ids=["bf16", "muon", "lion"],
)
def test_precisions_and_optimizers_train_like_in_one_process(
    spec: dict[str, Any], tmp_path: Path, change: dict[str, Any], rel: float
) -> None:
    spec["model"] |= {**LLAMA, "dropout": 0.0}
    spec |= {"steps": 6, **change}
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    assert train_tensor_parallel(2, spec, tmp_path / "two") == [SUCCESS] * 2
    assert_same_losses(tmp_path, rel)


@pytest.mark.slow
def test_compiled_blocks_train_like_eager_ones_in_one_process(spec: dict[str, Any], tmp_path: Path) -> None:
    spec["model"] |= {**LLAMA, "dropout": 0.0}
    spec |= {"steps": 6}
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    torchrun(2, {**spec, "parallel": TWO, "compile": True}, tmp_path / "two")
    assert_same_losses(tmp_path, 1e-4)


def assert_same_losses(folder: Path, rel: float) -> None:
    for one, two in zip(rows(folder / "one"), rows(folder / "two"), strict=True):
        for name in one.keys() & {"train/loss", "val/loss"}:
            assert two[name] == pytest.approx(one[name], rel=rel)


# ---------------------------------------------------------------------- checkpoints


def test_two_ranks_load_and_save_weights_bitwise(tmp_path: Path) -> None:
    """Two ranks load the weights of one process and save equal tensors."""
    spec = small(**LLAMA, bias=True, tie_embeddings=False)
    save_model(tmp_path / "one", with_large_weights(gptzoo.build(spec)))

    def work(rank: int) -> None:
        torch.distributed.init_process_group("gloo")
        sharded = apply_tensor_parallel(
            gptzoo.build(spec, seed=2), torch.distributed.init_device_mesh("cpu", (2,)), torch.device("cpu")
        )
        load_weights(sharded.model, tmp_path / "one", sharded.state_dict(), sharded.row_orders)  # type: ignore[arg-type]
        assert sharded.model.get_submodule("blocks.0.attention").qkv.weight.shape == (32, 32)  # of 64 rows
        ranks = Ranks(rank, 2, tensor_size=2)
        write_sharded_file(
            tmp_path / "two",
            sharded.state_dict(),
            sharded.row_orders,
            is_main=ranks.is_main,
            on_all_ranks=ranks.on_all_ranks,
        )
        torch.distributed.destroy_process_group()

    assert together(2, work, tmp_path) == [SUCCESS] * 2
    saved = read_tensors(tmp_path / "one" / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in read_tensors(tmp_path / "two").items())
    assert saved.keys() == read_tensors(tmp_path / "two").keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"), [(TWO, {}), ({}, TWO), (TWO, {"replicate": 2}), ({"shard": 2}, TWO)], ids=str
)
def test_a_run_resumes_with_another_kind_of_parallelism(
    spec: dict[str, Any], tmp_path: Path, first: dict[str, Any], then: dict[str, Any]
) -> None:
    """Weights, EMA and optimizer state are the same as those of a run that was never stopped."""
    spec |= {"schedule": "constant", "ema_decay": 0.9}
    spec["model"] |= {**LLAMA, "bias": False}  # the gradient of a key bias is only rounding error
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    for steps, parallel in ((8, first), (12, then)):
        resumed = {**spec, "steps": steps, "parallel": parallel}
        assert set(train(2 if parallel else 1, resumed, tmp_path / "run", extend=True)) == {SUCCESS}
    for file in ("model.safetensors", "optimizer.safetensors", "averages.safetensors"):
        expected, actual = (read_tensors(tmp_path / run / LAST / file) for run in ("one", "run"))
        assert expected.keys() == actual.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(actual[name], tensor, rtol=1e-3, atol=2e-5)


@pytest.mark.slow
def test_a_run_that_is_stopped_and_resumed_is_bitwise_the_same(spec: dict[str, Any], tmp_path: Path) -> None:
    def send_signal(rank: int) -> None:
        def send(trainer: Any) -> None:
            if rank == 1 and trainer.train_state.step == 6:
                os.kill(os.getpid(), 15)

        before_step(pytest.MonkeyPatch(), send)

    assert train_tensor_parallel(2, spec, tmp_path / "whole") == [SUCCESS] * 2
    assert "SIGTERM at step 7. A checkpoint was saved" in common_error(
        train_tensor_parallel(2, spec, tmp_path / "run", before=send_signal), 4
    )
    assert train_tensor_parallel(2, spec, tmp_path / "run", resume=True) == [SUCCESS] * 2
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_a_shard_that_is_not_finite_is_named_on_all_ranks(spec: dict[str, Any], tmp_path: Path) -> None:
    def poison(rank: int) -> None:
        def set_nan(trainer: Any) -> None:
            if rank == 1 and trainer.train_state.step == 6:
                with torch.no_grad():
                    trainer.model.blocks[1].ffn.up.weight[0, 0] = float("nan")

        before_step(pytest.MonkeyPatch(), set_nan)

    error = common_error(train_tensor_parallel(2, spec, tmp_path / "run", before=poison), 3)
    assert "the loss of step 7 is nan, over samples 384 to 415; blocks.1.ffn.up.weight is not finite itself" in error


# ---------------------------------------------------------------------- components of plugins


class Slopes(gptzoo.Activation):
    """An activation with a parameter per unit, a parameter for all units, and a buffer."""

    name = "slopes"

    def __init__(self, config: Any, width: int):
        super().__init__(config, width)
        self.slope = nn.Parameter(torch.empty(width))
        self.shift = nn.Parameter(torch.empty(1))
        self.register_buffer("scale", torch.empty(width))

    def initialise(self, rng: Any) -> None:
        nn.init.normal_(self.slope, generator=rng("slope"))
        nn.init.zeros_(self.shift)
        self.scale.copy_(torch.linspace(0.5, 1.5, self.width))

    def tensor_parallel(self, n: int) -> Any:
        return {"slope": gptzoo.Sharded(), "scale": gptzoo.Sharded(), "shift": gptzoo.Replicated(partial=True)}

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > self.shift, x, self.slope * (x - self.shift) * self.scale)


class Tilted(gptzoo.Positional):
    """A learned score bias for each head."""

    name = "tilted"

    def __init__(self, config: Any, dims: Any, rotary_dims: Any = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.tilt = nn.Parameter(torch.empty(dims.n_heads))

    def initialise(self, rng: Any) -> None:
        nn.init.normal_(self.tilt, generator=rng("tilt"))

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return self.tilt[:, None, None] * (k_pos[:, None, None, :] - q_pos[:, None, :, None]).float()


class Planless(gptzoo.FeedForward):
    """A component without a tensor-parallel plan."""

    name = "planless"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Tensor:
        return x * 0.5


class IncompletePlan(gptzoo.FeedForward):
    """A component whose plan leaves out a linear layer."""

    name = "incomplete_plan"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.up = nn.Linear(dims.d_model, 8)
        self.down = nn.Linear(8, dims.d_model)

    def tensor_parallel(self, n: int) -> Any:
        return {"up": gptzoo.ColumnParallel()}


@pytest.mark.slow
def test_components_of_plugins_are_split_by_their_own_plans(
    spec: dict[str, Any], tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Slopes, Tilted, plugin="theirs")
    spec["model"] |= {"positional": "tilted", "activation": "slopes"}
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    assert train_tensor_parallel(2, spec, tmp_path / "two") == [SUCCESS] * 2
    assert_close(tmp_path / "one", tmp_path / "two", rel=1e-4)
    one, two = (read_tensors(tmp_path / run / LAST / "model.safetensors") for run in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)
    assert torch.equal(two["blocks.0.ffn.activation.scale"], torch.linspace(0.5, 1.5, 64))


@pytest.mark.slow
def test_a_component_without_a_plan_is_rejected_on_all_ranks_before_anything_is_written(
    spec: dict[str, Any], tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Planless, plugin="planless")
    spec["model"]["ffn"] = "planless"
    assert common_error(train_tensor_parallel(2, spec, tmp_path / "run"), 2) == (
        "$.parallel.tensor: 2: ffn 'planless' has no tensor-parallel plan. Implement tensor_parallel in "
        "Planless (see docs/components.md), choose another component, or set parallel.tensor to 1."
    )
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("part", "n", "words"),
    [
        (
            {"attention": {"type": "sdpa", "n_kv_heads": 2}},
            4,
            "2 key/value heads cannot be split evenly over 4 processes",
        ),
        ({"n_heads": 2}, 4, "2 query heads cannot be split evenly over 4 processes"),
        ({"dropout": 0.1}, 2, "Set the attention's own dropout to 0"),
    ],
)
def test_heads_that_cannot_be_split_are_rejected(part: dict[str, Any], n: int, words: str) -> None:
    attention = gptzoo.build(small(**part), device="meta").blocks[0].attention
    with pytest.raises(gptzoo.InputError, match=words):
        resolve_plan(attention, n)


def test_hidden_units_that_cannot_be_split_are_rejected() -> None:
    network = gptzoo.build(small(ffn={"type": "glu", "d_ff": 85}), device="meta").blocks[0].ffn
    with pytest.raises(gptzoo.InputError, match="85 hidden units cannot be split evenly over 2 processes"):
        resolve_plan(network, 2)


def test_an_incomplete_plan_is_an_error_of_its_author() -> None:
    dims = gptzoo.load_model_spec(small()).dims
    with pytest.raises(
        RuntimeError, match=r"'incomplete_plan': its tensor-parallel plan has no entry for down.weight, down.bias"
    ):
        resolve_plan(IncompletePlan(IncompletePlan.Config(type="incomplete_plan"), dims), 2)


def test_an_inherited_plan_does_not_cover_new_parameters_of_a_subclass() -> None:
    class Sinks(gptzoo.MultiHeadAttention):
        name = "sinks"

        def __init__(self, config: Any, dims: Any):
            super().__init__(config, dims)
            self.sink = nn.Parameter(torch.empty(dims.n_heads))

    spec = gptzoo.load_model_spec(small())
    config = Sinks.Config(type="sinks", **spec.attention.model_dump(exclude={"type", "softcap", "sinks"}))
    with pytest.raises(gptzoo.InputError, match=r"'sinks' inherits a .* plan that has no entry for sink. Implement"):
        resolve_plan(Sinks(config, spec.dims), 2)


# ---------------------------------------------------------------------- the spec


def test_tensor_and_shard_cannot_be_combined(spec: dict[str, Any]) -> None:
    with pytest.raises(gptzoo.SpecError, match=r"\$.parallel.tensor: cannot be combined with shard"):
        gptzoo.load_run_spec({**spec, "parallel": {"tensor": 2, "shard": 2}})


def test_tensor_needs_a_multiple_of_its_number_of_processes(spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(gptzoo.InputError, match=r"parallel.tensor: 1 processes cannot be grouped by 2; start"):
        gptzoo.train({**spec, "parallel": TWO}, tmp_path / "run")
    with pytest.raises(gptzoo.InputError, match=r"expected 4 processes \(replicate 2 times tensor 2\), got 1"):
        gptzoo.train({**spec, "parallel": {"replicate": 2, **TWO}}, tmp_path / "run")

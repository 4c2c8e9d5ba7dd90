"""Processes that share products: they learn what one does, keep what one keeps, and refuse what has no plan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import Ended, together, torchrun
from runs import assert_same_run, before_update, rows
from support import admit, loud, small
from torch import Tensor, nn
from training.test_parallel import FINE, LAST, assert_close, told, train

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import load_weights, read_tensors, save_model
from gptzoo.checkpoint.sharded_tensors import write_sharded_file
from gptzoo.components.tensor_parallel import resolve_plan
from gptzoo.training.distributed.ranks import Ranks
from gptzoo.training.distributed.tensor_parallel import share_out

TWO = {"tensor": 2}
GROUPED = {"type": "sdpa", "n_kv_heads": 2, "qk_norm": "rmsnorm", "dropout": 0.0}
LLAMA = {"attention": GROUPED, "positional": "rope", "norm": "pre_ln", "ffn": {"type": "glu", "d_ff": 24}}


@pytest.fixture
def spec(run_spec: dict[str, Any]) -> dict[str, Any]:
    """With dropout, of all but the attention weights."""
    run_spec["model"] |= {"n_heads": 4, "attention": {"type": "naive", "dropout": 0.0}}
    return run_spec


def shared(n: int, spec: dict[str, Any], out: Path, **options: Any) -> list[Ended]:
    return train(n, {**spec, "parallel": TWO}, out, **options)


# ---------------------------------------------------------------------- what is learned


def test_two_processes_that_share_products_learn_what_one_does(spec: dict[str, Any], tmp_path: Path) -> None:
    """Losses, gradient norms and the sizes of updates are those of the whole."""
    spec |= {"steps": 4, "watch": {"every": 2}, "eval": {"every": 4}}
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    assert shared(2, spec, tmp_path / "two") == [FINE] * 2
    assert_close(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("tied", [True, False])
def test_twenty_steps_of_grouped_queries_and_gates_are_those_of_one_process(
    spec: dict[str, Any], tmp_path: Path, n: int, tied: bool
) -> None:
    """Four processes are two copies. With a vocabulary that nothing divides, blocks that recompute, and averages."""
    spec["model"] |= {**LLAMA, "tie_embeddings": tied, "vocab_size": 257}
    spec |= {
        "steps": 20,
        "micro_batch_size": 16,
        "activation_checkpointing": True,
        "ema_decay": 0.9,
        "freeze": ["embed*"],
    }
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    assert shared(n, spec, tmp_path / "two") == [FINE] * n
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
def test_however_it_is_computed(spec: dict[str, Any], tmp_path: Path, change: dict[str, Any], rel: float) -> None:
    spec["model"] |= {**LLAMA, "dropout": 0.0}
    spec |= {"steps": 6, **change}
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    assert shared(2, spec, tmp_path / "two") == [FINE] * 2
    assert_same_losses(tmp_path, rel)


@pytest.mark.slow
def test_compiled_they_learn_what_one_does_that_is_not(spec: dict[str, Any], tmp_path: Path) -> None:
    spec["model"] |= {**LLAMA, "dropout": 0.0}
    spec |= {"steps": 6}
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    torchrun(2, {**spec, "parallel": TWO, "compile": True}, tmp_path / "two")
    assert_same_losses(tmp_path, 1e-4)


def assert_same_losses(folder: Path, rel: float) -> None:
    for one, two in zip(rows(folder / "one"), rows(folder / "two"), strict=True):
        for name in one.keys() & {"train/loss", "val/loss"}:
            assert two[name] == pytest.approx(one[name], rel=rel)


# ---------------------------------------------------------------------- what is kept


def test_weights_come_back_from_two_processes_to_the_bit(tmp_path: Path) -> None:
    """The file that two write of what they have read is, byte by byte, the file that one has written."""
    spec = small(**LLAMA, bias=True, tie_embeddings=False)
    save_model(tmp_path / "one", loud(gptzoo.build(spec)))

    def work(rank: int) -> None:
        torch.distributed.init_process_group("gloo")
        shares = share_out(
            gptzoo.build(spec, seed=2), torch.distributed.init_device_mesh("cpu", (2,)), torch.device("cpu")
        )
        load_weights(shares.model, tmp_path / "one", shares.tensors(), shares.orders)  # type: ignore[arg-type]
        assert shares.model.get_submodule("blocks.0.attention").qkv.weight.shape == (32, 32)  # of 64 rows
        ranks = Ranks(rank, 2, tensor=2)
        write_sharded_file(tmp_path / "two", shares.tensors(), shares.orders, is_main=ranks.main, on_all_ranks=ranks.everywhere)
        torch.distributed.destroy_process_group()

    assert together(2, work, tmp_path) == [FINE] * 2
    saved = read_tensors(tmp_path / "one" / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in read_tensors(tmp_path / "two").items())
    assert saved.keys() == read_tensors(tmp_path / "two").keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"), [(TWO, {}), ({}, TWO), (TWO, {"replicate": 2}), ({"shard": 2}, TWO)], ids=str
)
def test_a_run_goes_on_with_products_shared_otherwise(
    spec: dict[str, Any], tmp_path: Path, first: dict[str, Any], then: dict[str, Any]
) -> None:
    """Weights, averages and the optimizer's state are those of the run that was never stopped."""
    spec |= {"schedule": "constant", "ema_decay": 0.9}
    spec["model"] |= {**LLAMA, "bias": False}  # the gradient of a key's bias is nothing but rounding
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    for steps, parallel in ((8, first), (12, then)):
        now = {**spec, "steps": steps, "parallel": parallel}
        assert set(train(2 if parallel else 1, now, tmp_path / "run", extend=True)) == {FINE}
    for file in ("model.safetensors", "optimizer.safetensors", "averages.safetensors"):
        expected, found = (read_tensors(tmp_path / run / LAST / file) for run in ("one", "run"))
        assert expected.keys() == found.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=2e-5)


@pytest.mark.slow
def test_asked_to_stop_and_resumed_it_is_the_same_run_bit_by_bit(spec: dict[str, Any], tmp_path: Path) -> None:
    def signalled(rank: int) -> None:
        def act(trainer: Any) -> None:
            if rank == 1 and trainer.standing.step == 6:
                os.kill(os.getpid(), 15)

        before_update(pytest.MonkeyPatch(), act)

    assert shared(2, spec, tmp_path / "whole") == [FINE] * 2
    assert "SIGTERM at step 7: saved" in told(shared(2, spec, tmp_path / "run", before=signalled), 4)
    assert shared(2, spec, tmp_path / "run", resume=True) == [FINE] * 2
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
def test_a_share_that_is_not_finite_is_named_by_all(spec: dict[str, Any], tmp_path: Path) -> None:
    def breaks(rank: int) -> None:
        def act(trainer: Any) -> None:
            if rank == 1 and trainer.standing.step == 6:
                with torch.no_grad():
                    trainer.model.blocks[1].ffn.up.weight[0, 0] = float("nan")

        before_update(pytest.MonkeyPatch(), act)

    error = told(shared(2, spec, tmp_path / "run", before=breaks), 3)
    assert "the loss of step 7 is nan, over samples 384 to 415; blocks.1.ffn.up.weight is not finite itself" in error


# ---------------------------------------------------------------------- parts of somebody else


class Slopes(gptzoo.Activation):
    """A part with something to learn for each unit, something for all of them, and a buffer."""

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
    """A score bias that is learned for each head."""

    name = "tilted"

    def __init__(self, config: Any, dims: Any, rotary_dims: Any = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.tilt = nn.Parameter(torch.empty(dims.n_heads))

    def initialise(self, rng: Any) -> None:
        nn.init.normal_(self.tilt, generator=rng("tilt"))

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return self.tilt[:, None, None] * (k_pos[:, None, None, :] - q_pos[:, None, :, None]).float()


class Planless(gptzoo.FeedForward):
    """A part that offers no plan."""

    name = "planless"

    def forward(self, x: Tensor, step: Any, state: Any = None) -> Tensor:
        return x * 0.5


class Forgetful(gptzoo.FeedForward):
    """Its plan leaves out what comes last, and names what there is not."""

    name = "forgetful"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.up = nn.Linear(dims.d_model, 8)
        self.down = nn.Linear(8, dims.d_model)

    def tensor_parallel(self, n: int) -> Any:
        return {"up": gptzoo.ColumnParallel()}


@pytest.mark.slow
def test_parts_that_the_core_has_never_heard_of_are_shared_by_their_own_plans(
    spec: dict[str, Any], tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Slopes, Tilted, plugin="theirs")
    spec["model"] |= {"positional": "tilted", "activation": "slopes"}
    gptzoo.train(spec, tmp_path / "one", quiet=True)
    assert shared(2, spec, tmp_path / "two") == [FINE] * 2
    assert_close(tmp_path / "one", tmp_path / "two", rel=1e-4)
    one, two = (read_tensors(tmp_path / run / LAST / "model.safetensors") for run in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)
    assert torch.equal(two["blocks.0.ffn.activation.scale"], torch.linspace(0.5, 1.5, 64))


@pytest.mark.slow
def test_a_part_without_a_plan_is_refused_by_all_before_anything_is_written(
    spec: dict[str, Any], tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Planless, plugin="planless")
    spec["model"]["ffn"] = "planless"
    assert told(shared(2, spec, tmp_path / "run"), 2) == (
        "$.parallel.tensor: 2: ffn 'planless' has no tensor-parallel plan. Implement tensor_parallel in "
        "Planless (docs/components.md says how), take another, or set it to 1"
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
        ({"dropout": 0.1}, 2, "set the attention's own dropout to 0"),
    ],
)
def test_heads_that_cannot_be_shared_are_refused(part: dict[str, Any], n: int, words: str) -> None:
    attention = gptzoo.build(small(**part), device="meta").blocks[0].attention
    with pytest.raises(gptzoo.InputError, match=words):
        resolve_plan(attention, n)


def test_hidden_units_that_cannot_be_shared_are_refused() -> None:
    network = gptzoo.build(small(ffn={"type": "glu", "d_ff": 85}), device="meta").blocks[0].ffn
    with pytest.raises(gptzoo.InputError, match="85 hidden units cannot be split evenly over 2 processes"):
        resolve_plan(network, 2)


def test_a_plan_that_leaves_something_out_is_an_error_of_its_author() -> None:
    dims = gptzoo.load_model_spec(small()).dims
    with pytest.raises(RuntimeError, match=r"'forgetful': its plan .* has no entry for down.weight, down.bias"):
        resolve_plan(Forgetful(Forgetful.Config(type="forgetful"), dims), 2)


def test_a_plan_that_is_inherited_is_none_for_what_a_subclass_adds() -> None:
    class Sinks(gptzoo.MultiHeadAttention):
        name = "sinks"

        def __init__(self, config: Any, dims: Any):
            super().__init__(config, dims)
            self.sink = nn.Parameter(torch.empty(dims.n_heads))

    spec = gptzoo.load_model_spec(small())
    config = Sinks.Config(type="sinks", **spec.attention.model_dump(exclude={"type"}))
    with pytest.raises(gptzoo.InputError, match=r"'sinks' inherits a .* plan that has no entry for sink. Implement"):
        resolve_plan(Sinks(config, spec.dims), 2)


# ---------------------------------------------------------------------- the spec


def test_products_are_shared_or_weights_are_not_both(spec: dict[str, Any]) -> None:
    with pytest.raises(gptzoo.SpecError, match=r"\$.parallel.tensor: does not go with shard"):
        gptzoo.load_run_spec({**spec, "parallel": {"tensor": 2, "shard": 2}})


def test_as_many_processes_as_share_products_are_needed(spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(gptzoo.InputError, match=r"parallel.tensor: 2 does not divide the 1 processes there are; start"):
        gptzoo.train({**spec, "parallel": TWO}, tmp_path / "run")
    with pytest.raises(gptzoo.InputError, match="replicate 2 times tensor 2 is 4 processes, and 1 is there"):
        gptzoo.train({**spec, "parallel": {"replicate": 2, **TWO}}, tmp_path / "run")

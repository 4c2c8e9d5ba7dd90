"""Muon on sharded weights updates each matrix of a fused parameter as on one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import together
from support import small
from torch import Tensor, nn
from training.distributed.parallel_runs import SUCCESS

import gptzoo
from gptzoo.checkpoint.sharded_tensors import distribute_like, full_tensor, reorder_rows
from gptzoo.model.fused_blocks import fused_blocks
from gptzoo.spec.run import ParallelSpec
from gptzoo.training.distributed.parallelize import parallelize
from gptzoo.training.distributed.ranks import Ranks
from gptzoo.training.named_parameters import NamedParameters
from gptzoo.training.optim.muon import Muon

MODEL = small(attention={"type": "sdpa", "n_kv_heads": 2}, ffn={"type": "glu", "d_ff": 24}, positional="rope")
CONFIG: Any = Muon.Config(lr=0.5, adjust_lr="match_rms_adamw")
N_STEPS = 2


def train(parameters: NamedParameters, place: Callable[[str, Tensor], Tensor]) -> None:
    """Do steps with random gradients, which are the same full tensors on every rank."""
    optimizer = CONFIG.build().create(parameters)
    generator = torch.Generator().manual_seed(4)
    for _ in range(N_STEPS):
        for name, parameter in parameters.items():
            parameter.grad = place(name, torch.randn(parameter.shape, generator=generator))
        optimizer.step()


@pytest.mark.parametrize("parallel", [{"shard": 2}, {"tensor": 2}], ids=str)
def test_sharded_matrices_get_the_updates_of_full_ones(tmp_path: Path, parallel: Mapping[str, int]) -> None:
    expected = NamedParameters.of(gptzoo.build(MODEL))
    train(expected, lambda name, tensor: tensor)

    def work(rank: int) -> None:
        torch.distributed.init_process_group("gloo")
        model = gptzoo.build(MODEL)
        blocks = fused_blocks(model)
        ranks = Ranks(rank, 2, tensor_size=parallel.get("tensor", 1))
        sharded = parallelize(model, ParallelSpec(**parallel), ranks, torch.device("cpu"))
        orders = sharded.row_orders
        parameters = NamedParameters(dict[str, nn.Parameter](sharded.parameters()), blocks, orders)
        train(parameters, lambda name, tensor: distribute_like(parameters[name], reorder_rows(orders, name, tensor)))
        actual = {
            name: reorder_rows(orders, name, full_tensor(p.detach()), inverse=True) for name, p in parameters.items()
        }
        if rank == 0:
            torch.save(actual, tmp_path / "weights")
        torch.distributed.destroy_process_group()

    assert together(2, work, tmp_path) == [SUCCESS] * 2
    actual = torch.load(tmp_path / "weights")
    assert actual.keys() == expected.keys()
    initial = dict(gptzoo.build(MODEL).named_parameters())
    for name, parameter in expected.items():
        change = (parameter - initial[name]).norm()
        assert (actual[name] - parameter).norm() < 0.05 * change, name  # Muon multiplies in bfloat16

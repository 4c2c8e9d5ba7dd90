"""A block wires sublayers by its norm scheme, passes each its state, and collects auxiliary outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gptzoo import SublayerOutput
from gptzoo.model.block import Block


class Sum(nn.Module):
    """A norm scheme of plain sums."""

    def forward(self, x: Tensor, sublayers: Any) -> Tensor:
        for sublayer in sublayers.values():
            x = x + sublayer(x)
        return x


class Scale(nn.Module):
    """A sublayer that multiplies by what its state holds, or by one."""

    def __init__(self, has_outputs: bool):
        super().__init__()
        self.has_outputs = has_outputs

    def forward(self, x: Tensor, step: Any, state: Any = None) -> Any:
        assert step == "the step"
        y = x * (state["factor"] if state else 1)
        if not self.has_outputs:
            return y
        return SublayerOutput(y, losses={"l": y.sum()}, metrics={"m": y.mean()}, captures={"c": y})


def test_each_sublayer_gets_its_own_state() -> None:
    block = Block(Sum(), {"first": Scale(False), "second": Scale(False)})  # type: ignore[dict-item]
    states = {"second": {"factor": torch.tensor(10.0)}}
    assert block(torch.tensor(1.0), "the step").y == 4
    assert block(torch.tensor(1.0), "the step", states).y == 2 + 20


def test_auxiliary_outputs_are_named_after_their_sublayer() -> None:
    block = Block(Sum(), {"first": Scale(True), "second": Scale(False), "third": Scale(True)})  # type: ignore[dict-item]
    y, losses, metrics, captures = block(torch.tensor([1.0]), "the step")
    assert y == 8
    assert {name: loss.item() for name, loss in losses.items()} == {"first.l": 1, "third.l": 4}
    assert set(metrics) == {"first.m", "third.m"}
    assert set(captures) == {"first.c", "third.c"}


def test_calls_do_not_share_auxiliary_outputs() -> None:
    block = Block(Sum(), {"first": Scale(True)})  # type: ignore[dict-item]
    before = block(torch.tensor([1.0]), "the step")
    block(torch.tensor([3.0]), "the step")
    assert before.losses["first.l"] == 1

"""gptzoo's optimizers are those of torch: bit for bit, with the same state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gptzoo.training import eager_optimizers

PAIRS: list[tuple[Any, Any, dict[str, Any]]] = [
    (eager_optimizers.AdamW, torch.optim.AdamW, {"fused": True}),
    (eager_optimizers.SGD, torch.optim.SGD, {"momentum": 0.9}),
    (eager_optimizers.Adafactor, torch.optim.Adafactor, {}),
    (eager_optimizers.Muon, torch.optim.Muon, {}),
]


def train(kind: Any, options: dict[str, Any]) -> tuple[list[torch.Tensor], dict[str, Any]]:
    torch.manual_seed(1)
    weights = [nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6, 3))]
    optimizer = kind(weights[:1], lr=0.1, **options)
    optimizer.add_param_group({"params": weights[1:], "lr": 0.01})
    for step in range(4):
        optimizer.zero_grad()
        assert all(weight.grad is None for weight in weights)
        (weights[0] @ weights[1]).square().sum().backward()
        optimizer.step()
        if step == 1:
            optimizer.load_state_dict(optimizer.state_dict())
    assert torch.is_grad_enabled()
    return [weight.detach() for weight in weights], optimizer.state_dict()


@pytest.mark.parametrize(("ours", "theirs", "options"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_steps_are_those_of_torch(ours: Any, theirs: Any, options: dict[str, Any]) -> None:
    (weights, state), (expected, expected_state) = train(ours, options), train(theirs, options)
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)
    torch.testing.assert_close(state, expected_state, rtol=0, atol=0)
    assert ours.__name__ == theirs.__name__  # the name in progress messages and checkpoints


def test_hooks_of_steps_are_called() -> None:
    calls: list[str] = []
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = eager_optimizers.SGD([weight], lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    weight.grad = torch.ones(2, 2)
    optimizer.step()
    assert calls == ["before", "after"]

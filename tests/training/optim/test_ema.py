from __future__ import annotations

import pytest
import torch
from torch import nn

from gptzoo.training.optim.ema import EMA


def test_the_ema_follows_its_recurrence_with_a_growing_decay() -> None:
    parameters = {"a": nn.Parameter(torch.randn(3)), "b": nn.Parameter(torch.randn(2, 2))}
    ema = EMA(parameters, decay=0.5)
    expected = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for step in range(1, 20):
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.add_(torch.randn_like(parameter))
                decay = min(0.5, (1 + step) / (10 + step))
                expected[name] = decay * expected[name] + (1 - decay) * parameter
        ema.update(step)
    for name, value in expected.items():
        torch.testing.assert_close(ema.values[name], value)


def test_the_ema_is_swapped_in_and_out() -> None:
    parameters = {"a": nn.Parameter(torch.ones(2))}
    ema = EMA(parameters, decay=0.9)
    with torch.no_grad():
        parameters["a"].fill_(3.0)
    place = parameters["a"].data_ptr()
    with ema.swapped_in():
        assert parameters["a"].tolist() == [1.0, 1.0]
        assert torch.is_grad_enabled()
    assert parameters["a"].tolist() == [3.0, 3.0]
    assert parameters["a"].data_ptr() == place  # compiled code stays valid
    with pytest.raises(RuntimeError, match="stop"), ema.swapped_in():
        raise RuntimeError("stop")
    assert parameters["a"].tolist() == [3.0, 3.0]

from __future__ import annotations

import pytest
import torch
from torch import nn

from gptzoo.training.optim.ema import EMA


def test_averages_are_the_recurrence_with_a_decay_that_grows_to_its_value() -> None:
    parameters = {"a": nn.Parameter(torch.randn(3)), "b": nn.Parameter(torch.randn(2, 2))}
    averages = EMA(parameters, decay=0.5)
    expected = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for step in range(1, 20):
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.add_(torch.randn_like(parameter))
                decay = min(0.5, (1 + step) / (10 + step))
                expected[name] = decay * expected[name] + (1 - decay) * parameter
        averages.update(step)
    for name, value in expected.items():
        torch.testing.assert_close(averages.values[name], value)


def test_the_averages_are_in_the_model_for_as_long_as_they_are_asked_for() -> None:
    parameters = {"a": nn.Parameter(torch.ones(2))}
    averages = EMA(parameters, decay=0.9)
    with torch.no_grad():
        parameters["a"].fill_(3.0)
    place = parameters["a"].data_ptr()
    with averages.in_place():
        assert parameters["a"].tolist() == [1.0, 1.0]
        assert torch.is_grad_enabled()
    assert parameters["a"].tolist() == [3.0, 3.0]
    assert parameters["a"].data_ptr() == place  # what was compiled for it stays valid
    with pytest.raises(RuntimeError, match="stop"), averages.in_place():
        raise RuntimeError("stop")
    assert parameters["a"].tolist() == [3.0, 3.0]

"""FIRE compared with its formula, written as loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import gptzoo

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 24, "n_layers": 1, "n_heads": 4}


def fire_of(**options: Any) -> Any:
    return gptzoo.build({**SMALL, "positional": {"type": "fire", **options}}).positionals[0]


@pytest.mark.parametrize("options", [{}, {"threshold": 6.0, "c": 0.7, "d_hidden": 5}], ids=str)
@pytest.mark.parametrize(("c_sign", "threshold"), [(1, 1.0), (-1, -1.5)])
def test_the_bias_equals_the_formula_of_the_paper(options: dict[str, Any], c_sign: int, threshold: float) -> None:
    fire = fire_of(**options)
    fire.c.data.mul_(c_sign)  # the paper uses the absolute values of both
    fire.threshold.data.fill_(threshold)
    c, length = abs(fire.c.item()), fire.config.threshold * abs(threshold)
    queries, keys = (0, 5, 6, 20, 3000), (0, 3, 5, 20, 2999)
    bias = fire.bias(torch.tensor([queries]), torch.tensor([keys]))
    assert bias.shape == (1, 4, 5, 5)
    for t, q in enumerate(queries):
        for s, k in enumerate(keys):
            x = math.log(c * abs(q - k) + 1) / math.log(c * max(length, q) + 1)
            hidden = [
                max(weight * x + hidden_bias, 0.0)
                for weight, hidden_bias in zip(fire.hidden_weight.tolist(), fire.hidden_bias.tolist(), strict=True)
            ]
            for head, weights in enumerate(fire.out_weight.tolist()):
                expected = sum(weight * unit for weight, unit in zip(weights, hidden, strict=True))
                torch.testing.assert_close(bias[0, head, t, s].item(), expected, rtol=1e-4, atol=1e-5)


def test_the_bias_depends_on_the_query_position_beyond_the_threshold_only() -> None:
    fire = fire_of(threshold=50.0)

    def bias_at(q: int) -> torch.Tensor:
        return fire.bias(torch.tensor([[q]]), torch.tensor([[q - 10, q - 5, q]]))

    torch.testing.assert_close(bias_at(20), bias_at(49))
    assert not torch.allclose(bias_at(20), bias_at(200), atol=1e-3)


def test_the_initial_bias_is_nonlinear_in_the_distance_and_differs_by_head() -> None:
    bias = fire_of().bias(torch.tensor([[500]]), torch.arange(501)[None])[0, :, 0]  # (H, S)
    assert (bias.amax(1) - bias.amin(1) > 0.05).all()
    assert (bias - bias[:1]).abs().amax() > 0.1
    x = (0.1 * torch.arange(500, -1, -1.0)).log1p()
    design = torch.stack([x, torch.ones_like(x)], dim=1)
    fitted = design @ torch.linalg.lstsq(design, bias.mT).solution  # the best linear function
    assert (bias.mT - fitted).abs().amax() > 0.02


def test_no_parameter_is_a_scalar() -> None:
    assert all(parameter.ndim > 0 for parameter in fire_of().parameters())

"""Activations against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from support import Arithmetic, small

import gptzoo

X = [-20.0, -3.0, -1.0, -0.1, 0.0, 0.1, 0.5, 1.0, 3.0, 20.0]


def phi(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


FORMULAS = {
    "relu": ({}, lambda x: max(0.0, x)),
    "gelu": ({}, lambda x: x * phi(x)),
    "gelu-tanh": (
        {"approximate": "tanh"},
        lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "silu": ({}, lambda x: x / (1 + math.exp(-x))),
}


@pytest.mark.parametrize("case", FORMULAS)
def test_an_activation_equals_its_formula(case: str, arithmetic: Arithmetic) -> None:
    options, formula = FORMULAS[case]
    spec = gptzoo.load_model_spec(small(activation={"type": case.partition("-")[0], **options}))
    x = torch.tensor(X, device=arithmetic.device, dtype=arithmetic.dtype)
    expected = torch.tensor([formula(value) for value in X], device=arithmetic.device, dtype=arithmetic.dtype)
    arithmetic.close(spec.activation.build(len(X))(x), expected)


def test_the_two_gelus_differ() -> None:
    x = torch.tensor(X)
    exact, tanh = (
        gptzoo.load_model_spec(small(activation={"type": "gelu", "approximate": name})).activation.build(1)(x)
        for name in ("none", "tanh")
    )
    assert 1e-5 < (exact - tanh).abs().max() < 1e-2

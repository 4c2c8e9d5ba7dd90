"""Initial values and computed buffers of ejected files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eject_variants import BASE

import gptzoo
from gptzoo.eject.eject import eject_model
from gptzoo.eject.refusal import EjectError
from gptzoo.eject.verify import have_one_distribution, verify
from gptzoo.spec.files import load_model_spec

# Options under which each kind of initial value occurs: residual layers, biases, gains.
SPEC = {**BASE, "bias": True, "tie_embeddings": False, "norm": {"type": "pre_ln", "layer": "layernorm"}}


@pytest.fixture(scope="module")
def model() -> Any:
    return gptzoo.build(load_model_spec(SPEC), seed=3)


@pytest.fixture(scope="module")
def text(model: Any) -> str:
    return eject_model(model)


@pytest.mark.parametrize(
    ("right", "wrong", "tensor"),
    [
        ("INIT_STD = 0.02", "INIT_STD = 0.022", "embed.weight"),
        pytest.param("RESIDUAL_STD if ", "INIT_STD if ", r"blocks.0.attention.out.weight", marks=pytest.mark.slow),
        pytest.param("nn.init.zeros_(module.bias)", "nn.init.ones_(module.bias)", "bias", marks=pytest.mark.slow),
        pytest.param(
            "nn.init.normal_(",
            "(lambda w, std: nn.init.uniform_(w, -std * 3**0.5, std * 3**0.5))(",
            "weight",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_file_with_other_initial_values_is_refused(
    model: Any, text: str, right: str, wrong: str, tensor: str
) -> None:
    assert right in text
    with pytest.raises(EjectError, match=f"initial values of .*{tensor}"):
        verify(text.replace(right, wrong), model)


def test_samples_are_told_apart_by_distribution() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(5000, generator=generator) for _ in range(2))
    assert have_one_distribution(a, b)
    assert not have_one_distribution(a, 1.2 * b)
    assert not have_one_distribution(a, b + 0.3)
    assert not have_one_distribution(a, b.sign())  # of the same mean and deviation
    assert not have_one_distribution(torch.zeros(5000), torch.full((5000,), 1e-6))

"""Shared fixtures. One thread per process: with models as small as those in the tests, more threads are slower."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import gptzoo

SMALL: dict[str, Any] = {
    "vocab_size": 13,
    "context_length": 24,
    "d_model": 24,
    "n_layers": 2,
    "n_heads": 4,
    "positional": "rope",
}


class Distance(gptzoo.Positional):
    """Subtracts slope * distance from each score, with a slope that differs from head to head."""

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        slopes = torch.arange(1, self.dims.n_heads + 1, device=q_pos.device) / 5
        return -slopes[:, None, None] * (q_pos[:, None, :, None] - k_pos[:, None, None, :]).abs()


def with_large_weights(module: Any) -> Any:
    """Set weights so large that every parameter affects the output. Return the module in float64 and eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            else:  # weights of norms close to 1, biases and gates close to 0
                parameter.copy_(float(name.endswith("weight")) + 0.3 * noise)
    return module.double().eval()


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., dict[str, Any]]:
    """A function that returns the spec of a tiny model with changed fields."""
    return lambda **changes: {**SMALL, **changes}


@pytest.fixture(scope="session")
def model_of() -> Callable[..., Any]:
    """A function that builds a tiny model with large weights; `positional="distance"` adds a score bias."""

    def build(**changes: Any) -> Any:
        biased = changes.get("positional") == "distance"
        model = gptzoo.build({**SMALL, **changes, **({"positional": "none"} if biased else {})})
        if biased:
            model.positionals[0] = Distance(Distance.Config(), model.spec.dims)
        return with_large_weights(model)

    return build


@pytest.fixture(scope="session")
def context_of() -> Callable[..., gptzoo.ForwardContext]:
    """A function that builds the forward context of a model's first layer for tokens at these positions."""

    def context(model: Any, positions: Tensor, **options: Any) -> gptzoo.ForwardContext:
        positional = model.positionals[0]
        bias = positional.bias(positions, positions)
        return gptzoo.ForwardContext(
            positions, positional, tables=positional.prepare(positions), self_bias=bias, **options
        )

    return context


@pytest.fixture(scope="session")
def tokens_of() -> Callable[[int], Tensor]:
    """A function that returns token ids (2, length)."""
    return lambda length: torch.randint(13, (2, length), generator=torch.Generator().manual_seed(length))

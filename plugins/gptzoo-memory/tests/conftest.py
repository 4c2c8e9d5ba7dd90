"""What the tests share. One thread: for models as tiny as those of the tests, more of them are slower."""

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
    """Takes a share of the distance from each score, another one for each head."""

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        share = torch.arange(1, self.dims.n_heads + 1, device=q_pos.device) / 5
        return -share[:, None, None] * (q_pos[:, None, :, None] - k_pos[:, None, None, :]).abs()


def loud(module: Any) -> Any:
    """In float64 and eval mode, with weights so large that every part counts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            else:  # the weights of norms are about 1, biases and gates about 0
                parameter.copy_(float(name.endswith("weight")) + 0.3 * noise)
    return module.double().eval()


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., dict[str, Any]]:
    """The JSON of a tiny model with these fields."""
    return lambda **changes: {**SMALL, **changes}


@pytest.fixture(scope="session")
def model_of() -> Callable[..., Any]:
    """A tiny loud model; `positional="distance"` is one that biases the scores."""

    def build(**changes: Any) -> Any:
        biased = changes.get("positional") == "distance"
        model = gptzoo.build({**SMALL, **changes, **({"positional": "none"} if biased else {})})
        if biased:
            model.positionals[0] = Distance(Distance.Config(), model.spec.dims)
        return loud(model)

    return build


@pytest.fixture(scope="session")
def context_of() -> Callable[..., gptzoo.ForwardContext]:
    """The step in which a model's first layer sees tokens at these positions."""

    def context(model: Any, positions: Tensor, **options: Any) -> gptzoo.ForwardContext:
        positional = model.positionals[0]
        bias = positional.bias(positions, positions)
        return gptzoo.ForwardContext(
            positions, positional, tables=positional.prepare(positions), self_bias=bias, **options
        )

    return context


@pytest.fixture(scope="session")
def tokens_of() -> Callable[[int], Tensor]:
    """(2, length) token ids."""
    return lambda length: torch.randint(13, (2, length), generator=torch.Generator().manual_seed(length))

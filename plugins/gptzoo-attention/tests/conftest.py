"""Shared fixtures: tiny models, single attentions, and forward contexts to call them with."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: more threads are slower with tiny models

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from gptzoo_attention import flex as flex_module
from torch import Tensor

import gptzoo

SMALL: dict[str, Any] = {
    "vocab_size": 13,
    "context_length": 32,
    "d_model": 32,
    "n_layers": 2,
    "n_heads": 4,
    "positional": "rope",
}


class Slopes(gptzoo.Positional):
    """A score bias that differs from head to head."""

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        slopes = torch.linspace(0.1, 1.0, self.dims.n_heads, device=q_pos.device)
        return -slopes[:, None, None] * (q_pos[:, None, :, None] - k_pos[:, None, None, :]).abs()


@pytest.fixture(scope="session")
def model_of() -> Callable[..., Any]:
    """A function that builds a tiny model with weights so large that attention is far from uniform."""

    def model_of(attention: Any, **changes: Any) -> Any:
        model = gptzoo.build({**SMALL, "attention": attention, **changes}).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
                elif "lambda" in name:
                    parameter.normal_(std=0.3, generator=generator)
        return model

    return model_of


@pytest.fixture(scope="session")
def attention_of(model_of: Callable[..., Any]) -> Callable[..., Any]:
    """A function that builds a single attention whose queries and keys are large, so that its weights are peaked."""

    def attention_of(options: Any, **changes: Any) -> Any:
        attention = model_of(options, **changes).blocks[0].attention
        with torch.no_grad():
            attention.qkv.weight.mul_(2.0)
        return attention

    return attention_of


@pytest.fixture(scope="session")
def context_of() -> Callable[..., gptzoo.ForwardContext]:
    """A function that builds a forward context as the decoder does, optionally with a score bias."""

    def context_of(positions: Tensor, *, bias: bool = False, dims: Any = None, **options: Any) -> gptzoo.ForwardContext:
        positional = Slopes(Slopes.Config(), dims) if bias else gptzoo.registered("positional")["none"]
        positional = positional if bias else positional(positional.Config(), dims)
        return gptzoo.ForwardContext(positions, positional, self_bias=positional.bias(positions, positions), **options)

    return context_of


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(13, (2, 30), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def uncompiled_flex(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run FlexAttention uncompiled on the CPU, which supports the forward pass only, for every T above 1."""
    monkeypatch.setattr(flex_module, "has_kernel", lambda q, bias: True)
    monkeypatch.setattr(flex_module, "_compile", lambda function: function)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()

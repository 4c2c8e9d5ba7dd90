"""The tiny model that holds the component under test, with weights that make its faults visible."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gptzoo.components.context import ForwardContext
from gptzoo.model.architecture import Architecture
from gptzoo.model.stack import Stack
from gptzoo.testing.verdict import Skipped

TINY_MODEL = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4}


def add_weight_noise(model: Architecture, seed: int = 0, gain: float = 1.0) -> None:
    """Add noise to every parameter, so that every part of the model affects the logits.

    gain: factor on the noise of matrices. Large scores show a mask that is not infinite.

    Initial values are too small for that: attention is almost uniform, and gates may be closed. The noise is added to
    them, because some parameters must stay in a range.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (gain * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3))


def supply_required_inputs(model: Architecture) -> None:
    """Make a model that requires more than tokens, such as an encoder-decoder, use its own example of the rest."""
    if model.required_inputs:
        model.register_forward_pre_hook(_add_required_inputs, with_kwargs=True)


def _add_required_inputs(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    assert isinstance(model, Architecture)
    if kwargs.get("states") is not None:
        required = " and ".join(sorted(model.required_inputs))
        raise Skipped(f"the architecture requires {required}, and the kit does not feed such models in chunks")
    example = model.example_inputs(*args[0].shape)
    return args, {**{name: example[name] for name in model.required_inputs}, **kwargs}


def forward_context(model: Stack, positions: Tensor, **fields: Any) -> ForwardContext:  # noqa: ANN401  any field
    """Return the context that the first block of a model receives in a forward pass over `positions`."""
    positional = model.positionals[model.positional_of_layer[0]]
    bias = positional.bias(positions, positions)
    return ForwardContext(positions, positional, tables=positional.prepare(positions), self_bias=bias, **fields)

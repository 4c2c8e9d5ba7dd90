"""Initial values: linear layers that write the residual stream say so."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gptzoo.components.sublayer import SublayerOutput
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.verdict import Failed


def check_residual(subject: ModelPartUnderTest) -> None:
    """Check that a linear layer whose output is added to the residual stream has `writes_residual`.

    Its initial values are then scaled by the number of layers. Such a layer is found by noise on its output: the output
    of the sublayer changes by the same noise, up to a factor per channel.
    """
    model, tokens = subject.model(), subject.tokens(2, 6)
    for path, sublayer in subject.instances(model):
        for name, layer in sublayer.named_modules():
            if not isinstance(layer, nn.Linear) or getattr(layer, "writes_residual", False):
                continue
            if _writes_output(model, sublayer, layer, tokens):
                raise Failed(
                    f"{path}.{name} writes the residual stream, and the model does not know it. Its initial values "
                    f"should be smaller, the more layers a model has. Write in the constructor:\n\n"
                    f"    self.{name}.writes_residual = True\n"
                )


def _writes_output(model: nn.Module, sublayer: nn.Module, layer: nn.Linear, tokens: Tensor) -> bool:
    """Return True if the output of a layer is added to that of the sublayer, up to a factor per channel."""
    noise: list[Tensor] = []
    outputs: list[Tensor] = []

    def add_noise(scale: float, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(7)
        noise.append(torch.randn(output.shape, generator=generator))
        return output + scale * noise[-1]

    def keep_output(module: nn.Module, inputs: object, output: Tensor | SublayerOutput) -> None:
        outputs.append(output.y if isinstance(output, SublayerOutput) else output)

    for scale in (0.0, 1.0):
        handles: list[RemovableHandle] = [
            layer.register_forward_hook(partial(add_noise, scale)),
            sublayer.register_forward_hook(keep_output),
        ]
        with torch.no_grad():
            model(tokens)
        for handle in handles:
            handle.remove()
    if len(noise) != 2 or len(outputs) != 2 or noise[0].shape != outputs[0].shape:
        return False
    factors = ((outputs[1] - outputs[0]) / noise[0]).flatten(0, -2)  # (B T, C)
    weights = noise[0].flatten(0, -2).abs() > 0.1  # a quotient by a small number is rounded
    spread = torch.where(weights, (factors - factors.median(dim=0).values).abs(), 0).max()
    return bool(factors.median(dim=0).values.abs().min() > 1e-3 and spread < 1e-3)

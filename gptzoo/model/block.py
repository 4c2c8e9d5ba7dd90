"""One block of a stack: named sublayers, wired by the norm scheme."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gptzoo.components.context import ForwardContext
from gptzoo.components.norm import Norm
from gptzoo.components.sublayer import State, Sublayer, SublayerOutput

_RECOMPILE_LIMIT = 64
"""Graphs that torch may compile for the code of a block. All blocks share it, so a hybrid needs one for each kind of
block, mode and shape."""


def raise_recompile_limit() -> None:
    """Let torch compile the code of a block as often as a hybrid with many kinds of blocks needs."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _RECOMPILE_LIMIT)


def eager_blocks() -> contextlib.AbstractContextManager[object]:
    """Return a context in which compiled blocks run uncompiled.

    While the compiler is not imported there are none, and torch would import it to enter the context.
    """
    is_imported = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if is_imported else contextlib.nullcontext()


class Block(nn.Module):
    """The sublayers of one layer, in the order and residual topology of `norm`."""

    recompute = False
    """Activation checkpointing: recompute activations in the backward pass (Chen et al. 2016, arXiv:1604.06174)."""

    def __init__(self, norm: Norm, sublayers: Mapping[str, Sublayer]):
        super().__init__()
        self.norm = norm
        self.names = tuple(sublayers)
        for name, sublayer in sublayers.items():
            self.add_module(name, sublayer)

    def forward(self, x: Tensor, context: ForwardContext, states: Mapping[str, State] | None = None) -> SublayerOutput:
        """Map (B, T, C) to (B, T, C), with auxiliary outputs named `<sublayer>.<name>`."""
        if self.recompute and states is None and torch.is_grad_enabled():
            output: SublayerOutput = checkpoint(self._forward, x, context, None, use_reentrant=False)
            return output
        return self._forward(x, context, states)

    def _forward(self, x: Tensor, context: ForwardContext, states: Mapping[str, State] | None) -> SublayerOutput:
        auxiliary = SublayerOutput(x, {}, {}, {})  # filled by the functions below
        functions = {
            name: self._sublayer_function(name, context, (states or {}).get(name), auxiliary) for name in self.names
        }
        return auxiliary._replace(y=self.norm(x, functions))

    def _sublayer_function(
        self, name: str, context: ForwardContext, state: State | None, auxiliary: SublayerOutput
    ) -> Callable[[Tensor], Tensor]:
        """Return the sublayer as a function of the residual stream that adds its auxiliary outputs to `auxiliary`."""
        sublayer = getattr(self, name)

        def call_sublayer(x: Tensor) -> Tensor:
            output: Tensor | SublayerOutput = sublayer(x, context, state)
            if not isinstance(output, SublayerOutput):
                return output
            for from_sublayer, from_block in zip(output[1:], auxiliary[1:], strict=True):
                from_block.update({f"{name}.{key}": tensor for key, tensor in from_sublayer.items()})
            return output.y

        return call_sublayer

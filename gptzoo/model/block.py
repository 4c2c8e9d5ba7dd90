"""One block: named sublayers, wired by the norm scheme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gptzoo.components.context import ForwardContext
from gptzoo.components.sublayer import State, Sublayer, SublayerOutput

_GRAPHS = 64  # of one code: all blocks share theirs, so a hybrid needs one for each of its kinds, mode and shape


def allow_graphs() -> None:
    """Let torch compile the same code as often as a hybrid of many kinds needs."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _GRAPHS)


class Block(nn.Module):
    """The residual stream through the sublayers, in the order and topology of `norm`."""

    recompute = False
    """Keep no activations for the backward pass, but make them again in it (Chen et al. 2016, arXiv:1604.06174)."""

    def __init__(self, norm: nn.Module, sublayers: Mapping[str, Sublayer]):
        super().__init__()
        self.norm = norm
        self.names = tuple(sublayers)
        for name, sublayer in sublayers.items():
            self.add_module(name, sublayer)

    def forward(self, x: Tensor, context: ForwardContext, states: Mapping[str, State] | None = None) -> SublayerOutput:
        """Returns an Emit whose losses, metrics and captures are named `<sublayer>.<name>`."""
        if self.recompute and states is None and torch.is_grad_enabled():
            emitted: SublayerOutput = checkpoint(self.run, x, context, None, use_reentrant=False)
            return emitted
        return self.run(x, context, states)

    def run(self, x: Tensor, context: ForwardContext, states: Mapping[str, State] | None) -> SublayerOutput:
        gathered = SublayerOutput(x, {}, {}, {})
        branches = {name: self._branch(name, context, (states or {}).get(name), gathered) for name in self.names}
        return gathered._replace(y=self.norm(x, branches))

    def _branch(
        self, name: str, context: ForwardContext, state: State | None, gathered: SublayerOutput
    ) -> Callable[[Tensor], Tensor]:
        sublayer = getattr(self, name)

        def branch(x: Tensor) -> Tensor:
            result: Any = sublayer(x, context, state)
            if not isinstance(result, SublayerOutput):
                return result
            for own, everyone in zip(result[1:], gathered[1:], strict=True):
                everyone.update({f"{name}.{key}": tensor for key, tensor in own.items()})
            return result.y

        return branch

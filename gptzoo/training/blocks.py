"""How the blocks of a model are run in training: compiled, or keeping less for the backward pass."""

from __future__ import annotations

from torch import nn

from gptzoo.model.block import Block

_GRAPHS = 64  # of one block: all blocks share its code, so a hybrid needs one for each of its kinds, mode and shape


def prepare_blocks(model: nn.Module, *, compile: bool, recompute: bool) -> None:
    """Make every block compile itself when it is first called, and recompute its activations in the backward pass.

    Blocks are compiled one by one, so equal ones share a graph, and the names of parameters stay as they are.
    """
    for block in model.modules():
        if isinstance(block, Block):
            block.recompute = recompute
            if compile:
                _allow_graphs()
                block.compile()


def _allow_graphs() -> None:
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _GRAPHS)

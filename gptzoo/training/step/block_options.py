"""How the blocks of a model are run in training: compiled, or keeping less for the backward pass."""

from __future__ import annotations

from torch import nn

from gptzoo.model.block import Block, allow_graphs


def prepare_blocks(model: nn.Module, *, compile: bool, recompute: bool) -> None:
    """Make every block compile itself when it is first called, and recompute its activations in the backward pass.

    Blocks are compiled one by one, so equal ones share a graph, and the names of parameters stay as they are.
    """
    for block in model.modules():
        if isinstance(block, Block):
            block.recompute = recompute
            if compile:
                allow_graphs()
                block.compile()

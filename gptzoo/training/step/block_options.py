"""Compilation and activation checkpointing of the blocks of a model."""

from __future__ import annotations

from torch import nn

from gptzoo.model.block import Block, raise_recompile_limit


def prepare_blocks(model: nn.Module, *, compile: bool, recompute: bool) -> None:
    """Set every block to compile itself on its first call, and to recompute its activations in the backward pass.

    Blocks are compiled one by one, so that equal blocks share a graph and parameter names stay the same.
    """
    for block in model.modules():
        if isinstance(block, Block):
            block.recompute = recompute
            if compile:
                raise_recompile_limit()
                block.compile()

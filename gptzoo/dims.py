"""The sizes that all components of one model share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dims:
    """The sizes of a model, and the layer that a component is built for."""

    vocab_size: int  # V
    context_length: int  # the longest T in training
    d_model: int  # C
    n_layers: int
    n_heads: int  # H
    layer: int | None = None  # index of the block, from 0; None outside of blocks

    @property
    def d_head(self) -> int:
        """Width of one attention head, D."""
        return self.d_model // self.n_heads

"""The sizes that all components of a model share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dims:
    """The sizes of a model, and the layer that a component is built for."""

    vocab_size: int  # V
    context_length: int  # length of a training sequence in tokens
    d_model: int  # C
    n_layers: int
    n_heads: int  # H
    layer: int | None = None  # index of the block, from 0; None outside of blocks

    @property
    def d_head(self) -> int:
        """The width of an attention head, D."""
        return self.d_model // self.n_heads

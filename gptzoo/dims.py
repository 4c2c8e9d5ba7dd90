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
    head_width: int | None = None  # set where heads do not divide the width; use `d_head`

    @property
    def d_head(self) -> int:
        """The width of an attention head, D. Heads together are n_heads * D wide, which may differ from d_model."""
        return self.head_width or self.d_model // self.n_heads

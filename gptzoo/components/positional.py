"""The kind `positional`: position embeddings, rotations of queries and keys, and score biases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from gptzoo.components.part import Part
from gptzoo.dims import Dims

Tables: TypeAlias = Any  # the value that a positional's `prepare` computes for its `rotate`


class Positional(Part):
    """Base class of the kind `positional`. A subclass uses the methods that it overrides:

    - `embed` changes the token embeddings before the first block.
    - `rotate` changes queries and keys before the keys are cached. The attention must support `rotate`.
    - `bias` is added to the attention scores. The attention must support `bias`.

    Layers with equal configs share one instance.
    """

    kind = "positional"

    class Config(Part.Config):
        """The options of a positional."""

        def build(self, dims: Dims, rotary_dims: frozenset[int] = frozenset()) -> Positional:
            """Construct the positional; `rotary_dims` are the head widths that attentions of the model rotate."""
            positional: Positional = super().build(dims, rotary_dims)
            return positional

    config: Config

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        methods = (("rotate", cls.rotate, Positional.rotate), ("bias", cls.bias, Positional.bias))
        cls.requires = frozenset(name for name, method, default in methods if method is not default)

    def __init__(self, config: Config, dims: Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config)
        self.dims = dims
        self.rotary_dims = rotary_dims  # the head widths that attentions of this model rotate

    @property
    def max_length(self) -> int | None:
        """The longest supported sequence, or None for no limit."""
        return None

    def prepare(self, positions: Tensor) -> Tables:
        """Compute the tables for `rotate` from positions (B|1, T), once per forward pass."""
        return None

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add position information to token embeddings (B, T, C) at positions (B|1, T)."""
        return x

    def rotate(self, q: Tensor, k: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        """Rotate queries (B, H, T, D) and keys (B, G, T, D)."""
        return q, k

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor | None:
        """Return the score bias (B|1, H, T, S) for positions (B|1, T) and (B|1, S). Masked keys ignore it."""
        return None


class NoPositional(Positional):
    """No position encoding (NoPE). A causal model can still infer positions."""

    name = "none"
    paper = "Kazemnejad et al. 2023, The Impact of Positional Encoding on Length Generalization, arXiv:2305.19466"


class LearnedPositional(Positional):
    """A learned vector for each position up to context_length, added to the token embedding."""

    name = "learned"
    paper = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners (GPT-2)"

    def __init__(self, config: Positional.Config, dims: Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.table = nn.Embedding(dims.context_length, dims.d_model)

    @property
    def max_length(self) -> int:
        return self.table.num_embeddings

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        embedding: Tensor = self.table(positions.clamp(min=0))
        return x + embedding


class SinusoidalPositional(Positional):
    """Fixed sines and cosines of geometric wavelengths, added to the token embedding scaled by sqrt(d_model).

    PE[p, 2i] = sin(p / base^(2i/C)), PE[p, 2i+1] = cos(p / base^(2i/C)).
    """

    name = "sinusoidal"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.5"

    class Config(Positional.Config):
        base: PositiveFloat = 10000.0
        """Base of the geometric series of wavelengths. The longest wavelength is about 2 pi base tokens."""
        scale_tokens: bool = True
        """Multiply token embeddings by sqrt(d_model) before adding positions (arXiv:1706.03762, section 3.4)."""

        def problems(self, dims: Dims) -> Iterator[tuple[str, str]]:
            if dims.d_model % 2:
                yield "", f"pairs sines with cosines, so d_model must be even, got {dims.d_model}"

    config: Config

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        angle = _angles(positions, x.shape[-1], self.config.base)  # (B|1, T, C/2)
        waves = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        if self.config.scale_tokens:
            x = x * x.shape[-1] ** 0.5
        return x + waves.to(x.dtype)


class RotaryPositional(Positional):
    """Rotary position embedding: rotates each pair (i, i + D/2) of a head by position * theta^(-2i/D).

    Scores then depend only on the distance between query and key. Pairs are those of GPT-NeoX and Llama checkpoints.
    """

    name = "rope"
    paper = "Su et al. 2021, RoFormer, arXiv:2104.09864"

    class Config(Positional.Config):
        theta: PositiveFloat = 10000.0
        """Base of the geometric series of wavelengths. The longest wavelength is about 2 pi theta tokens."""

        def problems(self, dims: Dims) -> Iterator[tuple[str, str]]:
            if dims.d_head % 2:
                yield "", f"rotates pairs, so the head width d_model / n_heads must be even, got {dims.d_head}"

    config: Config

    def prepare(self, positions: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Compute cosine and sine, (B|1, 1, T, D/2) in float32, for each head width D."""
        angles = {width: _angles(positions, width, self.config.theta)[:, None] for width in self.rotary_dims}
        return {width: (angle.cos(), angle.sin()) for width, angle in angles.items()}

    def rotate(self, q: Tensor, k: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        cos, sin = tables[q.shape[-1]]

        def rotate_pairs(x: Tensor) -> Tensor:
            a, b = x.to(torch.promote_types(x.dtype, cos.dtype)).chunk(2, dim=-1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)

        return rotate_pairs(q), rotate_pairs(k)


def _angles(positions: Tensor, width: int, base: float) -> Tensor:
    """Return position * base^(-2i/width) as (B|1, T, width/2) float32, for positions (B|1, T)."""
    exponent = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    return positions[..., None].float() * base**-exponent

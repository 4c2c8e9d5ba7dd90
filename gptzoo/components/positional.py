"""Where a token is: the kind `positional`, with three seams, of which a component overrides what it uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from gptzoo.component import Config
from gptzoo.components.part import Part


class Positional(Part):
    """Base of the kind. Overriding a seam is the declaration that you use it:

    - `embed` adds to the token embeddings, before the first block;
    - `rotate` turns queries and keys, before keys are cached; the attention must honour it;
    - `bias` adds to the attention scores; the attention must honour it.

    One instance serves all layers that name the same config.
    """

    kind = "positional"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        seams = (("rotate", cls.rotate, Positional.rotate), ("bias", cls.bias, Positional.bias))
        cls.requires = frozenset(name for name, own, default in seams if own is not default)

    def __init__(self, config: Config, dims: Any, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config)
        self.dims = dims
        self.rotary_dims = rotary_dims  # every width that an attention of this model will rotate

    @property
    def max_length(self) -> int | None:
        """The longest sequence that it can place, or None."""
        return None

    def prepare(self, positions: Tensor) -> Any:
        """(B|1, T) -> tables for `rotate`, made once per forward."""
        return None

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token embeddings (B, T, C), positions (B|1, T) -> (B, T, C)."""
        return x

    def rotate(self, q: Tensor, k: Tensor, tables: Any) -> tuple[Tensor, Tensor]:
        """Queries (B, H, T, D) and keys (B, G, T, D) -> the same shapes."""
        return q, k

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor | None:
        """Positions (B|1, T) and (B|1, S) -> (B|1, H, T, S), to be added to the scores. What is masked is not asked."""
        return None


class NoPositional(Positional):
    """No positions at all: a causal model can still count (NoPE)."""

    name = "none"
    paper = "Kazemnejad et al. 2023, The Impact of Positional Encoding on Length Generalization, arXiv:2305.19466"


class LearnedPositional(Positional):
    """A learned vector for each position up to context_length, added to the token embedding."""

    name = "learned"
    paper = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners (GPT-2)"

    def __init__(self, config: Config, dims: Any, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.table = nn.Embedding(dims.context_length, dims.d_model)

    @property
    def max_length(self) -> int:
        return self.table.num_embeddings

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + self.table(positions.clamp(min=0))


class SinusoidalPositional(Positional):
    """Fixed sines and cosines of geometric wavelengths, added to the token embedding scaled by sqrt(d_model).

    PE[p, 2i] = sin(p / base^(2i/C)), PE[p, 2i+1] = cos(p / base^(2i/C)).
    """

    name = "sinusoidal"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.5"

    class Config(Positional.Config):
        base: PositiveFloat = 10000.0
        """Of the geometric series of wavelengths, the longest of which is about 2 pi base tokens."""
        scale_tokens: bool = True
        """Multiply token embeddings by sqrt(d_model) first, as the paper does (section 3.4): the waves have size 1."""

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            if dims.d_model % 2:
                yield "", f"pairs a sine with a cosine, so d_model must be even, not {dims.d_model}"

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        angle = _angles(positions, x.shape[-1], self.config.base)  # (B|1, T, C/2)
        waves = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        if self.config.scale_tokens:
            x = x * x.shape[-1] ** 0.5
        return x + waves.to(x.dtype)


class RotaryPositional(Positional):
    """Rotary position embedding: turns each pair (i, i + D/2) of a head by position * theta^(-2i/D).

    A score then depends on the distance of query and key alone. The pairing is that of GPT-NeoX and Llama checkpoints.
    """

    name = "rope"
    paper = "Su et al. 2021, RoFormer, arXiv:2104.09864"

    class Config(Positional.Config):
        theta: PositiveFloat = 10000.0
        """Base of the geometric series of wavelengths, the longest of which is about 2 pi theta tokens."""

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            if dims.d_head % 2:
                yield "", f"turns pairs, so the head width d_model / n_heads must be even, not {dims.d_head}"

    def prepare(self, positions: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Cosine and sine, (B|1, 1, T, D/2) in float32, for each width D."""
        angles = {width: _angles(positions, width, self.config.theta)[:, None] for width in self.rotary_dims}
        return {width: (angle.cos(), angle.sin()) for width, angle in angles.items()}

    def rotate(self, q: Tensor, k: Tensor, tables: Any) -> tuple[Tensor, Tensor]:
        cos, sin = tables[q.shape[-1]]

        def turn(x: Tensor) -> Tensor:
            a, b = x.to(torch.promote_types(x.dtype, cos.dtype)).chunk(2, dim=-1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)

        return turn(q), turn(k)


def _angles(positions: Tensor, width: int, base: float) -> Tensor:
    """(B|1, T) -> (B|1, T, width/2) float32: position * base^(-2i/width)."""
    exponent = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    return positions[..., None].float() * base**-exponent

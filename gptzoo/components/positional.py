"""The kind `positional`: position embeddings, rotations of queries and keys, and score biases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, TypeAlias

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from gptzoo.components.part import Part
from gptzoo.components.rope_scaling import RopeScaling
from gptzoo.dims import Dims
from gptzoo.reference import Reference

Tables: TypeAlias = Any  # the value that a positional's `prepare` computes for its `rotate`


class Positional(Part):
    """Base class of the kind `positional`. A subclass uses the methods that it overrides:

    - `embed` changes the token embeddings before the first block.
    - `rotate` changes queries and keys before the keys are cached. The attention must support `rotate`.
    - `bias` is added to the attention scores. The attention must support `bias`.

    Layers with equal configs share one instance.
    """

    kind = "positional"

    position_tables: ClassVar[frozenset[str]] = frozenset()
    """Names of parameters with one row for each position, of which a shorter or longer context takes the first."""

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
    position_tables = frozenset({"table.weight"})

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

        def at_width(self, base: Dims, dims: Dims) -> SinusoidalPositional.Config:
            if self.scale_tokens and base.d_model != dims.d_model:
                raise ValueError("multiplies embeddings by sqrt(d_model). Set scale_tokens to false")
            return self

    config: Config

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        frequencies = _frequencies(x.shape[-1], self.config.base, positions.device)
        angle = positions[..., None].float() * frequencies  # (B|1, T, C/2)
        waves = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        if self.config.scale_tokens:
            x = x * x.shape[-1] ** 0.5
        return x + waves.to(x.dtype)


class RotaryPositional(Positional):
    """Rotary position embedding: rotates each pair (i, i + R/2) of a head by position * theta^(-2i/R).

    R is the rotated width of the head. Scores then depend only on the distance between query and key. Pairs are those
    of GPT-NeoX and Llama checkpoints.
    """

    name = "rope"
    paper = "Su et al. 2021, RoFormer, arXiv:2104.09864; Black et al. 2022, GPT-NeoX-20B, arXiv:2204.06745 (partial)"

    class Config(Positional.Config):
        theta: PositiveFloat = 10000.0
        """Base of the geometric series of wavelengths, before scaling. The longest wavelength is about 2 pi theta
        tokens."""
        fraction: float = Field(default=1.0, gt=0, le=1)
        """Fraction of each head that is rotated, above 0 and up to 1. Rounded down to whole pairs, but at least one."""
        scaling: Annotated[RopeScaling.Config, Reference("rope_scaling")] | None = None
        """Frequency scaling for a context longer than in training. Null: none."""

        def problems(self, dims: Dims) -> Iterator[tuple[str, str]]:
            if dims.d_head % 2:
                yield "", f"rotates pairs, so the width of a head must be even, got {dims.d_head}"
            if self.scaling is not None and self.theta <= 1:
                yield "theta", f"should be above 1 with a scaling, got {self.theta:g}"

    config: Config

    def __init__(self, config: Config, dims: Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.scaling = config.scaling.build() if config.scaling else None

    def prepare(self, positions: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Compute cosines and sines, (B|1, 1, T, R/2) in float32. They are for each head width in `rotary_dims`."""
        return {width: self._tables(positions, width) for width in self.rotary_dims}

    def _tables(self, positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
        frequencies = _frequencies(self.rotated_width(width), self.config.theta, positions.device)
        if self.scaling is None:
            angles = positions[:, None, :, None].float() * frequencies
            return angles.cos(), angles.sin()
        angles = positions[:, None, :, None].float() * self.scaling.scale(frequencies, self.config.theta)
        factor = self.scaling.attention_factor
        return angles.cos() * factor, angles.sin() * factor

    def rotated_width(self, width: int) -> int:
        """Return R, the number of channels that are rotated in heads of a width."""
        return width if self.config.fraction == 1 else max(int(width * self.config.fraction) // 2 * 2, 2)

    def rotate(self, q: Tensor, k: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        cos, sin = tables[q.shape[-1]]
        if self.config.fraction == 1:
            return _rotate_pairs(q, cos, sin), _rotate_pairs(k, cos, sin)
        return _rotate_first_channels(q, cos, sin), _rotate_first_channels(k, cos, sin)


def _rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + R/2) of the channels of each head, (B, H, T, R)."""
    a, b = x.to(torch.promote_types(x.dtype, cos.dtype)).chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def _rotate_first_channels(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first R channels of each head (B, H, T, D). The others are unchanged."""
    width = 2 * cos.shape[-1]
    return torch.cat([_rotate_pairs(x[..., :width], cos, sin), x[..., width:]], dim=-1)


def _frequencies(width: int, base: float, device: torch.device) -> Tensor:
    """Return base^(-2i/width), (width/2,) float32, in radians per token."""
    exponent = torch.arange(0, width, 2, device=device, dtype=torch.float32) / width
    return base**-exponent

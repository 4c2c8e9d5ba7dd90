"""`Part`, the base class of all components that are modules of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from gptzoo.component import Component
from gptzoo.components.tensor_plan import TensorSplit

Rng = Callable[[str], torch.Generator]  # maps the name of a parameter to the generator of its initial values


@dataclass(frozen=True)
class FusedBlocks:
    """The matrices that one parameter holds, such as those of queries, keys and values: blocks of its rows."""

    sizes: tuple[int, ...]
    """Number of rows of each matrix, in their order along dim 0. Together they are all rows of the parameter."""
    repeats: int = 1
    """How often this pattern of rows repeats: n_heads if each head has its rows of every matrix in turn."""

    @property
    def n_rows(self) -> int:
        """The number of rows of the parameter."""
        return self.repeats * sum(self.sizes)

    def rows(self) -> list[torch.Tensor]:
        """Return the indices of the rows of each matrix."""
        pattern = torch.arange(self.n_rows).view(self.repeats, -1)
        return [block.flatten() for block in pattern.split_with_sizes(list(self.sizes), dim=1)]


@dataclass(frozen=True)
class Fans:
    """The dimensions of a parameter that the part sums over. All others are outputs."""

    inputs: tuple[int, ...]
    """The dimensions of the inputs: (1,) for a matrix (out, in), (0,) for a table (index, width), (2,) for a stack of
    matrices (expert, out, in)."""
    has_multiplier: bool = False
    """True if the part multiplies the result by the base width over the width, as an output head does."""
    scales_initial_values: bool = False
    """True if the initial values shrink with 1/sqrt(fan-in) already."""


class Part(Component, nn.Module):
    """A component that is a module of the model.

    The constructor is plain: `(config, …sizes)`. It also runs on the meta device, so it must not compute values.
    `initialise` fills the parameters and buffers that the part itself owns. The model fills torch layers inside the
    part (Linear, Embedding, norms). Set `linear.writes_residual = True` on a Linear that writes the residual stream.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """Features that the attention next to this part must support: `rotate` or `bias` for a positional, `noncausal` for
    an architecture."""
    supports: ClassVar[frozenset[str]] = frozenset()
    """Features that an attention supports: `rotate`, `bias`, `documents`, `padding`, `noncausal`, `capture`, and
    `d_head`, for heads that together are wider or narrower than d_model."""
    may_skip_parameters: bool = False
    """True if a training step may compute the loss without some of the parameters, as with layers or branches that are
    drawn at random. DDP then looks for them in each step. A weight that is applied to no tokens, such as that of an
    expert without any, is not skipped: its gradient is zero. Set it on the class, or in the constructor if it depends
    on the options."""

    class Config(Component.Config):
        """The options of a part."""

        component: ClassVar[type[Part]]

    config: Config

    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    def initialise(self, rng: Rng) -> None:
        """Fill the parameters and buffers that this module owns itself, each from `rng("its_name")`."""

    def fused_blocks(self) -> Mapping[str, FusedBlocks]:
        """Return the matrices in each parameter of this part that holds several, by its name inside the part.

        An optimizer that treats matrices as a whole, such as Muon, then treats each of them by itself, as if it were a
        parameter of its own. So the result of training does not depend on how a layer is written. Parameters of nested
        parts are declared by these parts.
        """
        return {}

    def fans(self) -> Mapping[str, Fans]:
        """Return the inputs of parameters that this part owns itself, by name, for the parametrisation `mup`.

        Together with the sizes at the base width they say if a parameter is an input weight, a hidden or an output one.
        Declare matrices that are plain parameters. Torch's Linear, Embedding and Conv layers are known, and a vector
        is one number per output. Parameters of nested parts are declared by these parts.
        """
        return {}

    def tensor_parallel(self, n: int) -> TensorPlan | None:
        """Turn this part into one of `n` equal shards and return its tensor-parallel plan.

        Return None if the part has no plan. The method reduces the sizes that `forward` uses, such as the number of
        heads, to those of a shard. The plan says how each parameter and buffer is split, and the core splits them.
        Rank r gets the r-th piece of every split tensor. Raises InputError if a size cannot be split evenly.
        """
        return None


TensorPlan = Mapping[str, TensorSplit | Part]
"""Keys are names inside the part: of a `Linear`, a parameter, a buffer, or a module that is `Replicated`. A nested
part, such as an activation, stands for its own plan."""

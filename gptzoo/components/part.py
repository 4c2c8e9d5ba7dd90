"""`Part`, the base class of all components that are modules of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import nn

from gptzoo.component import Component
from gptzoo.components.tensor_plan import TensorSplit

Rng = Callable[[str], torch.Generator]  # maps the name of a parameter to the generator of its initial values


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

    class Config(Component.Config):
        """The options of a part."""

        component: ClassVar[type[Part]]

    config: Config

    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    def initialise(self, rng: Rng) -> None:
        """Fill the parameters and buffers that this module owns itself, each from `rng("its_name")`."""

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

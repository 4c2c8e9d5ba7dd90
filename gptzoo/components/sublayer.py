"""`Sublayer`, the base class of attention and feed-forward networks, and the outputs of a sublayer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from gptzoo.components.context import ForwardContext
from gptzoo.components.part import Part

State = dict[str, Tensor]  # the tensors that a sublayer caches between two calls, batch dimension first


_NO_TENSOR = """a SublayerOutput is no tensor: its tensor is `y`. To change the output of another sublayer, write

    output = super().forward(x, context, state)
    y = output.y if isinstance(output, SublayerOutput) else output
    y = ...  # the change
    return output._replace(y=y) if isinstance(output, SublayerOutput) else y
"""


class SublayerOutput(NamedTuple):
    """The output of a sublayer together with auxiliary outputs. A sublayer without any may return a plain tensor."""

    y: Tensor  # (B, T, C)
    losses: dict[str, Tensor] = {}  # scalars, added to the loss in training
    metrics: dict[str, Tensor] = {}  # scalars or short vectors, logged
    captures: dict[str, Tensor] = {}  # tensors named in `context.capture`

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"no attribute {name!r}: {_NO_TENSOR}")

    def _refuse(self, *other: object) -> NoReturn:
        raise TypeError(_NO_TENSOR)

    @classmethod
    def __torch_function__(cls, *call: object) -> NoReturn:
        """Refuse a function of torch, such as `torch.relu(output)`. Torch calls this method in its place."""
        raise TypeError(_NO_TENSOR)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse  # type: ignore
    __matmul__ = __rmatmul__ = __pow__ = __neg__ = _refuse  # type: ignore


@dataclass
class AuxiliaryOutputs:
    """Auxiliary outputs of a forward pass, keyed by `blocks.<i>.<sublayer>.<name>`. The forward pass fills it."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    captures: dict[str, Tensor] = field(default_factory=dict)
    wants_predictions: bool = False
    """Capture the likeliest token at each position as `predictions` (B, T), where the output head computes a loss."""

    def add(self, prefix: str, other: SublayerOutput | AuxiliaryOutputs) -> None:
        """Add the outputs of a block or stack, with `prefix` before each name."""
        self.losses |= {f"{prefix}{name}": tensor for name, tensor in other.losses.items()}
        self.metrics |= {f"{prefix}{name}": tensor for name, tensor in other.metrics.items()}
        self.captures |= {f"{prefix}{name}": tensor for name, tensor in other.captures.items()}


class Sublayer(Part):
    """One branch of a block: attention or a feed-forward network."""

    class Config(Part.Config):
        """The options of a sublayer."""

    config: Config

    rotary_dim: int | None = None
    """Width of the queries and keys that are passed to `context.rotate`. None if there are none."""
    supports_rollback: bool = False
    """True if decoding may continue from an earlier position although later ones were written to the state."""

    def forward(self, x: Tensor, context: ForwardContext, state: State | None = None) -> Tensor | SublayerOutput:
        """Map (B, T, C) to (B, T, C). With a `state`, read the cached past from it and append the new tokens."""
        raise TypeError(f"{type(self).__name__} does not implement forward")

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> State | None:
        """Allocate an empty state for `max_length` tokens per row. Return None if the sublayer caches nothing."""
        return None

    def after_optimizer_step(self, metrics: Mapping[str, Tensor]) -> None:
        """Update buffers that are learned without gradients, such as the balance of a router.

        The trainer calls it after each optimizer step with the metrics that this sublayer returned, averaged over the
        micro-batches. Change such buffers here and never in `forward`, which may run twice per step or in evaluation.
        """

"""What the parts of a model share: `Part`, `Sublayer`, the `Step` of a forward pass, and what sublayers `Emit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gptzoo.component import Component, Config
from gptzoo.components.mask import visible

if TYPE_CHECKING:
    from gptzoo.components.positional import Positional
    from gptzoo.spec.model import Dims, ModelSpec

State = dict[str, Tensor]  # what a sublayer keeps between two calls: batch first, no counters
Rng = Callable[[str], torch.Generator]  # name of an own parameter -> the generator to fill it from


class Part(Component, nn.Module):
    """A component that is a module of the model.

    Constructors are plain: `(config, …sizes)`. They run on the meta device too, so they compute no values: a part
    fills its own parameters and buffers in `initialise`. Layers of torch inside it (Linear, Embedding, norms) are
    filled by the model; a Linear that writes the residual stream says so with `linear.writes_residual = True`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """What a positional asks of the attention beside it: `rotate`, `bias`."""
    honours: ClassVar[frozenset[str]] = frozenset()
    """What an attention takes into account: of `rotate`, `bias`, `documents`, `padding`, `capture`."""

    config: Any

    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    def initialise(self, rng: Rng) -> None:
        """Fill the parameters and buffers that this module owns itself, each from `rng("its_name")`."""


class Emit(NamedTuple):
    """What a sublayer returns when it has more to say than its output `y`."""

    y: Tensor  # (B, T, C)
    losses: dict[str, Tensor] = {}
    metrics: dict[str, Tensor] = {}
    captures: dict[str, Tensor] = {}


@dataclass
class Observations:
    """Filled by a forward pass that is given one: what the sublayers emitted, under `blocks.<i>.<sublayer>.<name>`."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    captures: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What one forward pass knows beside the residual stream."""

    positions: Tensor  # (B|1, T) int64; -1 is padding
    positional: Positional
    tables: Any = None  # what positional.prepare(positions) returned
    self_bias: Tensor | None = None  # (B|1, H, T, T), the score bias among the new tokens, made once per forward
    documents: Tensor | None = None  # (B, T) int64; attention stays inside a document
    plain: bool = False  # a promise: positions are 0..T-1, no padding, no documents, nothing cached before
    fresh: bool = True  # a promise: nothing cached before
    capture: frozenset[str] = frozenset()

    def rotate(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, H, T, D) and keys (B, G, T, D) with their positions turned in."""
        return self.positional.rotate(q, k, self.tables)

    def bias(self, k_pos: Tensor) -> Tensor | None:
        """(B|1, H, T, S) to add to the scores against keys at `k_pos` (B|1, S), or None."""
        if k_pos is self.positions:
            return self.self_bias
        return self.positional.bias(self.positions, k_pos)

    def visible(self, k_pos: Tensor, window: int | None = None) -> Tensor:
        """(B|1, 1, T, S) bool: which keys each new token may see."""
        return visible(self.positions, k_pos, window=window, documents=self.documents)


class Sublayer(Part):
    """One branch of a block: attention or feed-forward network."""

    rotary_dim: int | None = None
    """Width of the queries and keys that it passes to `step.rotate`, if it does."""

    def forward(self, x: Tensor, step: Step, state: State | None = None) -> Tensor | Emit:
        """(B, T, C) -> (B, T, C). With a `state`, it reads what it kept of earlier tokens and adds the new ones."""
        raise TypeError(f"{type(self).__name__} does not implement forward")

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> State | None:
        """Room for up to `max_length` tokens a row, or None for a sublayer that keeps nothing."""
        return None


class Attention(Sublayer):
    """Base of the kind `attention`: mixes information between positions, never from the future; owns its cache."""

    kind = "attention"

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config)
        self.dims = dims


class FeedForward(Sublayer):
    """Base of the kind `ffn`: transforms every position by itself."""

    kind = "ffn"

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config)
        self.dims = dims


class Activation(Part):
    """Base of the kind `activation`: elementwise, (…, width) -> (…, width)."""

    kind = "activation"

    def __init__(self, config: Config, width: int):
        super().__init__(config)
        self.width = width


class Architecture(Part):
    """Base of the kind `architecture`: the assembly of the parts that a `ModelSpec` names, with vocabulary and loss.

    `model(tokens)` returns `(logits, None)`; `model(tokens, targets)` returns `(logits or None, loss)`. What else a
    forward takes is documented at the built-in `decoder`, whose signature the trainer and the sampler rely on.
    """

    kind = "architecture"

    def __init__(self, config: Config, spec: ModelSpec):
        super().__init__(config)
        self.spec = spec

    @property
    def max_length(self) -> int | None:
        """The longest sequence that its positions can place, or None."""
        return None

    def new_states(
        self, batch_size: int, max_length: int, *, device: Any = None, dtype: torch.dtype | None = None
    ) -> list[dict[str, State]]:
        """Empty states for `batch_size` rows of up to `max_length` tokens: a dict of tensors per sublayer and layer."""
        raise TypeError(f"{type(self).__name__} does not implement new_states")

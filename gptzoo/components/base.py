"""What the parts of a model share: `Part`, `Sublayer`, the `Step` of a forward pass, and what sublayers `Emit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gptzoo.component import Component, Config
from gptzoo.components.mask import visible
from gptzoo.errors import InputError

if TYPE_CHECKING:
    from gptzoo.components.positional import Positional
    from gptzoo.components.tensor_parallel import TensorPlan
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
    """What it asks of the attention beside it: a positional `rotate` or `bias`, an architecture `noncausal`."""
    honours: ClassVar[frozenset[str]] = frozenset()
    """What an attention takes into account: of `rotate`, `bias`, `documents`, `padding`, `noncausal`, `capture`."""

    config: Any

    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    def initialise(self, rng: Rng) -> None:
        """Fill the parameters and buffers that this module owns itself, each from `rng("its_name")`."""

    def tensor_parallel(self, n: int) -> TensorPlan | None:
        """Become one of `n` equal shares of itself, each in a process of its own; None for a part that has no plan.

        It sets what `forward` goes by, such as a number of heads, to that of a share, and returns how all of its
        parameters and buffers are cut; the core then cuts them. Process number r has the r-th part of whatever is cut,
        of heads too. Raises InputError for what cannot be shared evenly.
        """
        return None


class Emit(NamedTuple):
    """What a sublayer returns when it has more to say than its output `y`."""

    y: Tensor  # (B, T, C)
    losses: dict[str, Tensor] = {}  # scalars
    metrics: dict[str, Tensor] = {}  # scalars or short vectors
    captures: dict[str, Tensor] = {}


@dataclass
class Observations:
    """Filled by a forward pass that is given one: what the sublayers emitted, under `blocks.<i>.<sublayer>.<name>`."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    captures: dict[str, Tensor] = field(default_factory=dict)

    def add(self, prefix: str, seen: Emit | Observations) -> None:
        """Take in what a block or a stack inside has emitted, each name with `prefix` before it."""
        self.losses |= {f"{prefix}{name}": tensor for name, tensor in seen.losses.items()}
        self.metrics |= {f"{prefix}{name}": tensor for name, tensor in seen.metrics.items()}
        self.captures |= {f"{prefix}{name}": tensor for name, tensor in seen.captures.items()}


@dataclass(frozen=True)
class Step:
    """What one forward pass knows beside the residual stream."""

    positions: Tensor  # (B|1, T) int64; -1 is padding
    positional: Positional = None  # type: ignore[assignment]  # of the layer; the stack fills it and the next two in
    tables: Any = None  # what positional.prepare(positions) returned
    self_bias: Tensor | None = None  # (B|1, H, T, T), the score bias among the new tokens, made once per forward
    documents: Tensor | None = None  # (B, T) int64; attention stays inside a document
    causal: bool = True  # no token sees a later one; an encoder's may
    memory: Tensor | None = None  # (B, M, C), what cross-attention reads: the output of an encoder
    memory_valid: Tensor | None = None  # (B, M) bool; False is padding
    plain: bool = False  # a promise: positions are 0..T-1, no padding, no documents, nothing cached before
    fresh: bool = True  # a promise: nothing cached before
    reach: int | None = None  # no position of the new tokens is as large; None where a device would have to be asked
    capture: frozenset[str] = frozenset()
    memo: dict[Any, Any] = field(default_factory=dict)  # what one layer has worked out and the next need not

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
        return self._visible(k_pos, window)[0]

    def sees_all(self, k_pos: Tensor, window: int | None = None) -> bool:
        """Whether it is known, and true, that nothing of `k_pos` is to be masked."""
        return self._visible(k_pos, window)[1]

    def _visible(self, k_pos: Tensor, window: int | None) -> tuple[Tensor, bool]:
        if self.fresh or self.positions.shape[1] > 1 or not k_pos.is_cpu or torch.compiler.is_compiling():
            mask = visible(self.positions, k_pos, causal=self.causal, window=window, documents=self.documents)
            return mask, False
        key = "visible", id(self.positions), id(k_pos), self.causal, window
        if key not in self.memo:  # keys and positions are kept, so that their ids are not given to others
            mask = visible(self.positions, k_pos, causal=self.causal, window=window, documents=self.documents)
            self.memo[key] = mask, bool(mask.all()), k_pos, self.positions
        mask, everything, *_ = self.memo[key]
        return mask, everything


class Sublayer(Part):
    """One branch of a block: attention or feed-forward network."""

    rotary_dim: int | None = None
    """Width of the queries and keys that it passes to `step.rotate`, if it does."""
    rolls_back: bool = False
    """Decoding may go on from an earlier position although later ones were written to the state."""

    def forward(self, x: Tensor, step: Step, state: State | None = None) -> Tensor | Emit:
        """(B, T, C) -> (B, T, C). With a `state`, it reads what it kept of earlier tokens and adds the new ones."""
        raise TypeError(f"{type(self).__name__} does not implement forward")

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> State | None:
        """Room for up to `max_length` tokens a row, or None for a sublayer that keeps nothing."""
        return None

    def after_update(self, metrics: Mapping[str, Tensor]) -> None:
        """Learn from a training step in another way than by gradients, as the balance of a router does.

        Called after each optimizer step with the metrics that this sublayer emitted, averaged over the micro-batches.
        Buffers change here and never in forward, which may run twice for one step, or for evaluation.
        """


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

    def tensor_parallel(self, n: int) -> TensorPlan | None:
        """What has nothing to learn acts on a share as on the whole."""
        return None if any(True for _ in (*self.parameters(), *self.buffers())) else {}

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) -> (…, width)."""
        raise TypeError(f"{type(self).__name__} does not implement forward")


class Primed(NamedTuple):
    """A model that has read its prompts and is about to write."""

    logits: Tensor  # (B, V) of the first new token
    states: list[dict[str, State]]
    positions: Tensor  # (B|1, 1) of the first new token, where the model is fed it


class Architecture(Part):
    """Base of the kind `architecture`: the assembly of the parts that a `ModelSpec` names, with vocabulary and loss.

    `model(tokens)` returns `(logits, None)`; `model(tokens, targets)` returns `(logits or None, loss)`. What else a
    forward takes is documented at the built-in `decoder`, whose signature the trainer and the sampler rely on. What
    sublayers emit goes into its `observations` under the path of the sublayer in the module tree.
    """

    kind = "architecture"

    takes: ClassVar[frozenset[str]] = frozenset()
    """What a batch may hold beside `tokens` and `targets`; each is an argument of forward."""
    requires: ClassVar[frozenset[str]] = frozenset()
    """What a batch must hold beside `tokens` and `targets`."""

    def __init__(self, config: Config, spec: ModelSpec):
        super().__init__(config)
        self.spec = spec

    @property
    def max_length(self) -> int | None:
        """The longest sequence that its positions can place, or None."""
        return None

    def example(self, batch_size: int, length: int, *, device: Any = None) -> dict[str, Tensor]:
        """Arguments for a forward over sequences of `length` tokens, without targets: what a rehearsal runs on."""
        return {"tokens": torch.zeros(batch_size, length, dtype=torch.int64, device=device)}

    def new_states(
        self, batch_size: int, max_length: int, *, device: Any = None, dtype: torch.dtype | None = None
    ) -> list[dict[str, State]]:
        """Empty states for `batch_size` rows of up to `max_length` tokens: a dict of tensors per sublayer and layer."""
        raise TypeError(f"{type(self).__name__} does not implement new_states")

    def new_rows(self, batch_size: int, max_length: int) -> list[dict[str, State]]:
        """Empty states for `prime`, with room for any prompt and new tokens that are `max_length` together.

        Rows of two of them are of the same shapes, so that one can be put in the place of another.
        """
        return self.new_states(batch_size, max_length)

    def room(self, prompt_length: int) -> int | None:
        """How many tokens can be written after a prompt of so many, or None where there is no limit."""
        return None if self.max_length is None else max(0, self.max_length - prompt_length)

    def readout(self, x: Tensor) -> Tensor:
        """The residual stream (B, T, C) between two blocks -> logits (B, T, V): what it would say if it ended there."""
        raise TypeError(f"{type(self).__name__} does not implement readout")

    def prime(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        *,
        states: list[dict[str, State]] | None = None,
        **how: Any,
    ) -> Primed:
        """Read prompts of token ids, shorter ones padded on the left, with room for as many tokens more.

        states: from `new_rows`, empty; left out, they are made to measure. What else is given, such as `capture` and
        `observations`, goes to forward. Raises InputError for prompts of several lengths where an attention does not
        honour padding.
        """
        device = next(self.parameters()).device
        longest = max(map(len, prompts))
        if states is None:
            states = self.new_states(len(prompts), longest + max_new_tokens)
        if all(len(row) == longest for row in prompts):  # then one row of positions does for all
            tokens = torch.tensor([list(row) for row in prompts], device=device)
            logits, _ = self(tokens, states=states, fresh=True, last_only=True, **how)
            return Primed(logits[:, -1], states, torch.tensor([[longest]], device=device))
        for attention in self.spec.per_layer("attention"):
            if "padding" not in attention.component.honours:
                raise InputError(f"attention {attention.type!r} does not honour padding: give prompts of one length")
        tokens = torch.tensor([[0] * (longest - len(row)) + list(row) for row in prompts], device=device)
        positions = torch.tensor([[-1] * (longest - len(row)) + [*range(len(row))] for row in prompts], device=device)
        logits, _ = self(tokens, positions=positions, states=states, fresh=True, last_only=True, **how)
        return Primed(logits[:, -1], states, positions[:, -1:] + 1)

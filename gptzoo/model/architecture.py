"""`Architecture`, the base class of whole models, and `PrefillOutput`, the result of a prefill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from gptzoo.components.part import Part
from gptzoo.components.sublayer import State
from gptzoo.dims import Dims
from gptzoo.errors import InputError
from gptzoo.model.width import WidthScaling
from gptzoo.spec.model import ModelSpec
from gptzoo.utils.notebook.view import NotebookView

States = list[dict[str, State]]  # by layer, then by sublayer


class PrefillOutput(NamedTuple):
    """The result of a prefill: logits of the first new token, and the states that hold the prompts."""

    logits: Tensor  # (B, V), for the first new token
    states: States
    positions: Tensor  # (B|1, 1), of the first new token


class Architecture(Part, NotebookView):
    """Base class of the kind `architecture`: a whole model, assembled from the components of a `ModelSpec`.

    `model(tokens)` returns `(logits, None)`. `model(tokens[:, :-1], tokens[:, 1:])` returns `(logits or None, loss)`:
    the second argument is the target of each position, and the model does not shift it. The built-in `decoder`
    documents the other arguments of `forward`, on which the trainer and the sampler rely. Auxiliary outputs of
    sublayers are added to the `auxiliary` argument under the sublayer's path in the module tree.
    """

    kind = "architecture"

    class Config(Part.Config):
        """The options of an architecture."""

        component: ClassVar[type[Architecture]]

        def build(self, spec: ModelSpec) -> Architecture:
            """Construct the model that `spec` describes."""
            model: Architecture = super().build(spec)
            return model

        def at_width(self, base: Dims, dims: Dims) -> Architecture.Config:
            raise ValueError("does not multiply its logits by the base width over the width (see Config.at_width)")

    config: Config

    accepted_inputs: ClassVar[frozenset[str]] = frozenset()
    """Arguments of `forward` that a batch may provide in addition to `tokens` and `targets`."""
    required_inputs: ClassVar[frozenset[str]] = frozenset()
    """Arguments of `forward` that a batch must provide in addition to `tokens` and `targets`."""

    def __init__(self, config: Config, spec: ModelSpec):
        super().__init__(config)
        self.spec = spec
        self.stored_dtypes: dict[str, torch.dtype] = {}
        """Types of the tensors that the file of a loaded model holds in 16 bits, by name."""
        self.width_scalings: Mapping[str, WidthScaling] = {}
        """The growth of each parameter over the base width, by name, if the spec has a parametrisation."""

    @property
    def max_length(self) -> int | None:
        """The longest supported sequence, or None for no limit."""
        return None

    def example_inputs(
        self, batch_size: int, length: int, *, device: torch.device | str | None = None
    ) -> dict[str, Tensor]:
        """Return arguments of `forward`, without targets, for sequences of `length` tokens. Used by dry runs."""
        return {"tokens": torch.zeros(batch_size, length, dtype=torch.int64, device=device)}

    def new_states(
        self,
        batch_size: int,
        max_length: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> States:
        """Allocate empty states for `batch_size` rows of up to `max_length` tokens, by layer and sublayer."""
        raise TypeError(f"{type(self).__name__} does not implement new_states")

    def new_slot_states(self, batch_size: int, max_length: int) -> States:
        """Allocate empty states for `prefill` in which a prompt and its new tokens have up to `max_length` tokens.

        All rows have the same shapes for a given `max_length`, so a row can be copied over another one.
        """
        return self.new_states(batch_size, max_length)

    def remaining_length(self, prompt_length: int) -> int | None:
        """Return how many tokens can follow a prompt of `prompt_length` tokens, or None for no limit."""
        return None if self.max_length is None else max(0, self.max_length - prompt_length)

    def remaining_context(self, prompt_length: int) -> int:
        """Return how many tokens can follow a prompt within `context_length`, the length of training sequences.

        It is negative for a longer prompt. A model without a limit on positions computes later tokens as well.
        """
        return self.spec.context_length - prompt_length

    def readout(self, x: Tensor) -> Tensor:
        """Map the residual stream (B, T, C) between two blocks to logits (B, T, V), as the logit lens does."""
        raise TypeError(f"{type(self).__name__} does not implement readout")

    def prefill(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        *,
        states: States | None = None,
        **forward_kwargs: object,
    ) -> PrefillOutput:
        """Write the prompts (token ids) into the states and return the logits of the first new token.

        Shorter prompts are padded on the left. `states` come empty from `new_slot_states`; by default they are
        allocated for the longest prompt plus `max_new_tokens`. Other keyword arguments, such as `capture` and
        `auxiliary`, are passed to `forward`. Raises InputError for prompts of different lengths if an attention does
        not support padding.
        """
        device = next(self.parameters()).device
        longest = max(map(len, prompts))
        if states is None:
            states = self.new_states(len(prompts), longest + max_new_tokens)
        if all(len(prompt) == longest for prompt in prompts):  # all rows share one row of positions
            tokens = torch.tensor([list(prompt) for prompt in prompts], device=device)
            logits, _ = self(tokens, states=states, no_past=True, last_only=True, **forward_kwargs)
            return PrefillOutput(logits[:, -1], states, torch.tensor([[longest]], device=device))
        for attention in self.spec.per_layer("attention"):
            if "padding" not in attention.component.supports:
                raise InputError(f"attention {attention.type!r} does not support padding. Use prompts of equal length.")
        pads = [longest - len(prompt) for prompt in prompts]
        tokens = torch.tensor([[0] * n + list(prompt) for n, prompt in zip(pads, prompts, strict=True)], device=device)
        positions = torch.tensor([[-1] * n + [*range(longest - n)] for n in pads], device=device)
        logits, _ = self(tokens, positions=positions, states=states, no_past=True, last_only=True, **forward_kwargs)
        return PrefillOutput(logits[:, -1], states, positions[:, -1:] + 1)

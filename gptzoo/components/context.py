"""`ForwardContext`, the second argument of every sublayer's `forward`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gptzoo.components.mask import attention_mask
from gptzoo.components.positional import Positional, Tables


@dataclass(frozen=True)
class ForwardContext:
    """The inputs of a sublayer other than the residual stream: positions, documents, encoder memory and flags."""

    positions: Tensor  # (B|1, T) int64; -1 is padding
    positional: Positional = None  # type: ignore[assignment]  # the layer's; the stack sets it and the next two fields
    tables: Tables = None  # the result of positional.prepare(positions)
    self_bias: Tensor | None = None  # (B|1, H, T, T), score bias among the new tokens, computed once per forward
    documents: Tensor | None = None  # (B, T) int64; attention stays inside a document
    causal: bool = True  # False in an encoder, where tokens may attend to later ones
    memory: Tensor | None = None  # (B, M, C), encoder output for cross-attention
    memory_valid: Tensor | None = None  # (B, M) bool; False is padding
    trivially_causal: bool = False  # guarantee: positions are 0..T-1, no padding, no documents, no past
    no_past: bool = True  # guarantee: the cache is empty
    position_limit: int | None = None  # greater than every new position; None if reading it would need a device sync
    capture: frozenset[str] = frozenset()  # names of the tensors to capture, such as "attention"
    memo: dict[Any, Any] = field(default_factory=dict)  # results that layers of one forward pass share

    def rotate(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the positional to queries (B, H, T, D) and keys (B, G, T, D)."""
        return self.positional.rotate(q, k, self.tables)

    def bias(self, k_pos: Tensor) -> Tensor | None:
        """Return the score bias (B|1, H, T, S) against keys at `k_pos` (B|1, S). It is `None` without one."""
        if k_pos is self.positions:
            return self.self_bias
        return self.positional.bias(self.positions, k_pos)

    def attention_mask(self, k_pos: Tensor, window: int | None = None) -> Tensor:
        """Return the mask (B|1, 1, T, S) bool: True where a new token may attend to a key."""
        return self._mask(k_pos, window)[0]

    def is_unmasked(self, k_pos: Tensor, window: int | None = None) -> bool:
        """Return True if every new token is known to attend to every key. False may also mean unknown."""
        return self._mask(k_pos, window)[1]

    def _mask(self, k_pos: Tensor, window: int | None) -> tuple[Tensor, bool]:
        """Return the mask, and whether it is known to be all True."""
        # Layers share the mask among new tokens, and that of a decode step. Other keys are those of one layer.
        if (
            not (k_pos.is_cpu or k_pos.is_cuda)
            or not (k_pos is self.positions or (not self.no_past and self.positions.shape[1] == 1))
            or torch.compiler.is_compiling()
        ):
            mask = attention_mask(self.positions, k_pos, causal=self.causal, window=window, documents=self.documents)
            return mask, False
        key = "mask", id(self.positions), id(k_pos), id(self.documents), self.causal, window
        if key not in self.memo:  # the entry holds the tensors, so that their ids are not reused
            mask = attention_mask(self.positions, k_pos, causal=self.causal, window=window, documents=self.documents)
            # On a GPU, the host would wait for the answer.
            may_be_all_true = not self.no_past and self.positions.shape[1] == 1 and k_pos.is_cpu
            self.memo[key] = mask, may_be_all_true and bool(mask.all()), k_pos, self.positions, self.documents
        mask, all_true, *_ = self.memo[key]
        return mask, all_true

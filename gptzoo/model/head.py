"""The output head: residual stream to logits, or straight to the loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

IGNORE = -100  # a target that does not count

# Above so many logits the loss is taken in chunks of positions; 2^24 logits are 64 MiB in float32.
_CHUNK_LOGITS = 2**24


class Head(nn.Module):
    """(B, T, C) -> (B, T, V). A tied head has no weight of its own: it is handed the embedding's."""

    def __init__(self, d_model: int, vocab_size: int, *, tied: bool, bias: bool):
        super().__init__()
        self.weight = None if tied else nn.Parameter(torch.empty(vocab_size, d_model))
        self.bias = nn.Parameter(torch.empty(vocab_size)) if bias else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return F.linear(x, embedding if self.weight is None else self.weight, self.bias)

    def loss(self, x: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats over the targets (B, T) that are not IGNORE, in float32 or wider."""
        rows, flat = x.flatten(0, 1), targets.flatten()
        n_rows = max(1, _CHUNK_LOGITS // embedding.shape[0])
        if len(rows) <= n_rows:
            total = self._nats(rows, embedding, flat)
        else:
            # The logits of a chunk are made again in the backward pass, so that no more than one chunk is ever kept.
            chunks = zip(rows.split(n_rows), flat.split(n_rows), strict=True)
            total = sum(
                (checkpoint(self._nats, r, embedding, t, use_reentrant=False) for r, t in chunks),
                start=rows.new_zeros(()),
            )
        return total / (flat != IGNORE).sum()

    def _nats(self, rows: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
        logits = self(rows, embedding)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")

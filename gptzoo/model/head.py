"""The output head: residual stream to logits, or straight to the loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gptzoo.components.sublayer import AuxiliaryOutputs

IGNORE = -100  # a target that does not count

# Above so many logits the loss is taken in chunks of positions; 2^24 logits are 64 MiB in float32.
_CHUNK_LOGITS = 2**24


class Head(nn.Module):
    """(B, T, C) -> (B, T, V). A tied head has no weight of its own: it is handed the embedding's."""

    label_smoothing = 0.0
    """In training, the share of each target that is spread evenly over the vocabulary (Szegedy et al. 2016,
    arXiv:1512.00567)."""
    z_loss = 0.0
    """In training, the weight of the squared log-normaliser, which keeps logits from drifting (Chowdhery et al. 2022,
    PaLM, arXiv:2204.02311)."""

    def __init__(self, d_model: int, vocab_size: int, *, tied: bool, bias: bool):
        super().__init__()
        self.weight = None if tied else nn.Parameter(torch.empty(vocab_size, d_model))
        self.bias = nn.Parameter(torch.empty(vocab_size)) if bias else None
        self.packed: nn.Module | None = None  # for inference: the same product, its weights in another form

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        if self.packed is not None:
            logits: Tensor = self.packed(x)
            return logits
        return F.linear(x, embedding if self.weight is None else self.weight, self.bias)

    def loss(self, x: Tensor, embedding: Tensor, targets: Tensor, auxiliary: AuxiliaryOutputs) -> Tensor:
        """Mean cross-entropy in nats over the targets (B, T) that are not IGNORE, in float32 or wider.

        What label smoothing and z-loss add to it in training goes into `auxiliary.losses`, so that the
        cross-entropy itself stays comparable between runs with and without them.
        """
        rows, flat = x.flatten(0, 1), targets.flatten()
        n_rows = max(1, _CHUNK_LOGITS // embedding.shape[0])
        if len(rows) <= n_rows:
            sums = self._sums(rows, embedding, flat)
        else:
            # The logits of a chunk are made again in the backward pass, so that no more than one chunk is ever kept.
            chunks = zip(rows.split(n_rows), flat.split(n_rows), strict=True)
            sums = torch.stack([checkpoint(self._sums, r, embedding, t, use_reentrant=False) for r, t in chunks]).sum(0)
        nats, *extra = (sums / (flat != IGNORE).sum().clamp(min=1)).unbind()
        if extra:
            uniform, squares = extra
            if self.label_smoothing:
                auxiliary.losses["label_smoothing"] = self.label_smoothing * (uniform - nats)
            if self.z_loss:
                auxiliary.losses["z_loss"] = self.z_loss * squares
        return nats

    def _sums(self, rows: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
        """(1,): the cross-entropy summed over the targets that count. (3,) where more is asked for: also that of
        targets spread evenly, and the squares of the log-normaliser."""
        logits = self(rows, embedding)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        nats = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
        if not (self.training and (self.label_smoothing or self.z_loss)):
            return nats[None]
        counts = targets != IGNORE
        normaliser = logits.logsumexp(-1)
        uniform = normaliser - logits.mean(-1)
        return torch.stack([nats, (uniform * counts).sum(), (normaliser.square() * counts).sum()])

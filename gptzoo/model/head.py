"""The output head: maps the residual stream to logits, or directly to the loss."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gptzoo.components.sublayer import AuxiliaryOutputs

IGNORE_INDEX = -100  # a target that does not count in the loss

_MAX_CHUNK_LOGITS = 2**24  # 64 MiB in float32; for more logits, the loss is computed in chunks of positions


class Head(nn.Module):
    """A linear layer (B, T, C) -> (B, T, V), then a scale and a soft cap.

    A tied head has no weight: `forward` receives the embedding's.
    """

    scale = 1.0
    """Factor on the logits."""
    softcap: float | None = None
    """Soft cap of the logits: they become cap * tanh(logit / cap)."""
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
        self.packed: nn.Module | None = None  # for inference: computes the same product from weights in another layout

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        logits: Tensor
        if self.packed is not None:
            logits = self.packed(x)
        else:
            logits = F.linear(x, embedding if self.weight is None else self.weight, self.bias)
        if self.scale != 1:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def loss(self, x: Tensor, embedding: Tensor, targets: Tensor, auxiliary: AuxiliaryOutputs) -> Tensor:
        """Return the mean cross-entropy in nats over the targets (B, T) other than IGNORE_INDEX, in at least float32.

        In training, the terms of label smoothing and z-loss are added to `auxiliary.losses`. The cross-entropy itself
        stays comparable between runs with and without them. If `auxiliary` wants predictions, the likeliest token at
        each position becomes its capture `predictions`, int64 (B, T).
        """
        rows, flat = x.flatten(0, 1), targets.flatten()
        chunk_size = max(1, _MAX_CHUNK_LOGITS // embedding.shape[0])
        predictions = torch.empty_like(flat) if auxiliary.wants_predictions else None
        if len(rows) <= chunk_size:
            sums = self._loss_sums(rows, embedding, flat, predictions)
        else:
            # The backward pass recomputes the logits of a chunk, so the logits of only one chunk are ever in memory.
            parts = [] if predictions is None else torch.split(predictions, chunk_size)
            chunks = itertools.zip_longest(torch.split(rows, chunk_size), torch.split(flat, chunk_size), parts)
            sums = torch.stack(
                [checkpoint(self._loss_sums, r, embedding, t, p, use_reentrant=False) for r, t, p in chunks]
            ).sum(0)
        if predictions is not None:
            auxiliary.captures["predictions"] = predictions.view_as(targets)
        cross_entropy, *terms = (sums / (flat != IGNORE_INDEX).sum().clamp(min=1)).unbind()
        if terms:
            uniform, squares = terms
            if self.label_smoothing:
                auxiliary.losses["label_smoothing"] = self.label_smoothing * (uniform - cross_entropy)
            if self.z_loss:
                auxiliary.losses["z_loss"] = self.z_loss * squares
        return cross_entropy

    def _loss_sums(self, rows: Tensor, embedding: Tensor, targets: Tensor, predictions: Tensor | None) -> Tensor:
        """Return sums over the targets that count: the cross-entropy (1,), or three sums (3,) in regularised training.

        The others are the cross-entropy with uniform targets, and the squared log-normaliser. `predictions`, if given,
        receive the likeliest tokens.
        """
        logits = self(rows, embedding)
        if predictions is not None:
            predictions.copy_(logits.argmax(-1))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        cross_entropy = F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction="sum")
        if not (self.training and (self.label_smoothing or self.z_loss)):
            return cross_entropy[None]
        counts = targets != IGNORE_INDEX
        normaliser = logits.logsumexp(-1)
        uniform = normaliser - logits.mean(-1)
        return torch.stack([cross_entropy, (uniform * counts).sum(), (normaliser.square() * counts).sum()])

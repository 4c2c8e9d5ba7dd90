"""The measure of a model: one full pass over held-out text, the same whatever the batch size or the seed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from gptzoo.components.base import Architecture
from gptzoo.data.batching import Batch
from gptzoo.training.device import autocast
from gptzoo.training.update import n_targets


def evaluate(
    model: Architecture, batches: Iterable[Batch], *, n_bytes: int, precision: str = "fp32"
) -> dict[str, float]:
    """Loss (nats per token), perplexity and bits per byte of the targets in `batches`.

    `n_bytes` is the text that the targets stand for; bits per byte compare models of different tokenizers.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    nats, count = 0.0, 0
    for batch in batches:
        with torch.inference_mode(), autocast(device, precision):
            _, loss = model(**on_device(batch, device))
        size = n_targets(batch)
        nats += loss.item() * size
        count += size
    model.train(was_training)
    loss = nats / count
    return {
        "val/loss": loss,
        "val/perplexity": math.exp(min(loss, 700.0)),  # exp(710) is more than a float holds
        "val/bits_per_byte": nats / math.log(2) / n_bytes,
    }


def on_device(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """The arrays of a batch as tensors where the model is."""
    return {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in batch.items()}

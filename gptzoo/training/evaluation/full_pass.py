"""The measure of a model: one full pass over held-out text, the same whatever the batch size or the seed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from gptzoo.data.batching.batching import Batch
from gptzoo.model.architecture import Architecture
from gptzoo.training.distributed.ranks import ALONE, Ranks
from gptzoo.training.hardware.device import autocast
from gptzoo.training.step.train_step import n_targets
from gptzoo.utils.likelihood import Likelihood

EVALUATED_AT_ONCE = 16384  # tokens; bounds memory, the result does not depend on it


def measure(
    model: Architecture, batches: Iterable[Batch], *, n_bytes: int, precision: str = "fp32", ranks: Ranks = ALONE
) -> Likelihood:
    """The targets in `batches`, which stand for `n_bytes` of text; each counts the same whatever batch it is in.

    Several processes share the batches among them, and all find the same.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    nats, count = 0.0, 0
    # What is gathered of a sharded model in inference mode could not be used in training any more.
    without_gradient = torch.inference_mode if ranks.size == 1 else torch.no_grad
    for batch, own in ranks.dealt(batches):
        with without_gradient(), autocast(device, precision):
            _, loss = model(**on_device(batch, device))
        if own:
            size = n_targets(batch)
            nats += loss.item() * size
            count += size
    model.train(was_training)
    all_nats, all_count = ranks.sums(nats, count)
    return Likelihood(all_nats, int(all_count), n_bytes)


def evaluate(
    model: Architecture, batches: Iterable[Batch], *, n_bytes: int, precision: str = "fp32", ranks: Ranks = ALONE
) -> dict[str, float]:
    """Loss (nats per token), perplexity and bits per byte of the targets in `batches`, as metrics of a run."""
    found = measure(model, batches, n_bytes=n_bytes, precision=precision, ranks=ranks)
    return {
        "val/loss": found.loss,
        "val/perplexity": found.perplexity,
        "val/bits_per_byte": found.bits_per_byte,
    }


def on_device(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """The arrays of a batch as tensors where the model is."""
    return {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in batch.items()}

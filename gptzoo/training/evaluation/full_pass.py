"""The full pass: a model's loss over all held-out text, independent of batch size and seed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from gptzoo.data.batching.batching import Batch
from gptzoo.model.architecture import Architecture
from gptzoo.training.distributed.ranks import SINGLE_RANK, Ranks
from gptzoo.training.hardware.device import autocast
from gptzoo.training.step.micro_batch import count_targets
from gptzoo.utils.likelihood import Likelihood

MAX_TOKENS_PER_BATCH = 16384  # bounds memory; the result does not depend on it


def compute_likelihood(
    model: Architecture, batches: Iterable[Batch], *, n_bytes: int, precision: str = "fp32", ranks: Ranks = SINGLE_RANK
) -> Likelihood:
    """Sum the loss over all targets in `batches`, which encode `n_bytes` of text. Each target has the same weight.

    Several ranks split the batches and return the same result.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    nats, n_targets = 0.0, 0
    # Weights that FSDP gathers in inference mode cannot be used in training again.
    without_gradient = torch.inference_mode if ranks.size == 1 else torch.no_grad
    for batch, counts in ranks.round_robin(batches):
        with without_gradient(), autocast(device, precision):
            _, loss = model(**batch_to(device, batch))
        if counts:
            batch_targets = count_targets(batch)
            nats += loss.item() * batch_targets
            n_targets += batch_targets
    model.train(was_training)
    total_nats, total_targets = ranks.all_reduce_sum(nats, n_targets)
    return Likelihood(total_nats, int(total_targets), n_bytes)


def validation_metrics(
    model: Architecture, batches: Iterable[Batch], *, n_bytes: int, precision: str = "fp32", ranks: Ranks = SINGLE_RANK
) -> dict[str, float]:
    """Return loss (nats per token), perplexity and bits per byte as metrics of a run."""
    likelihood = compute_likelihood(model, batches, n_bytes=n_bytes, precision=precision, ranks=ranks)
    return {
        "val/loss": likelihood.loss,
        "val/perplexity": likelihood.perplexity,
        "val/bits_per_byte": likelihood.bits_per_byte,
    }


def batch_to(device: torch.device, batch: Batch) -> dict[str, Tensor]:
    """Return the arrays of a batch as tensors on the device."""
    return {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in batch.items()}

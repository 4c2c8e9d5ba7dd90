"""The full pass: a model's loss over all held-out text, independent of batch size and seed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from gptzoo.data.batching.batching import Batch
from gptzoo.errors import LogitsError
from gptzoo.model.architecture import Architecture
from gptzoo.training.distributed.ranks import SINGLE_RANK, Ranks
from gptzoo.training.hardware.device import autocast
from gptzoo.training.step.micro_batch import count_targets
from gptzoo.utils.bad_logits import CHECK_WEIGHTS, are_bad, describe_bad_logits, find_first_bad
from gptzoo.utils.likelihood import Likelihood

MAX_TOKENS_PER_BATCH = 16384  # bounds memory; the result does not depend on it


def compute_likelihood(
    model: Architecture, batches: Iterable[Batch], *, n_bytes: int, precision: str = "fp32", ranks: Ranks = SINGLE_RANK
) -> Likelihood:
    """Sum the loss over all targets in `batches`, which encode `n_bytes` of text. Each target has the same weight.

    Several ranks split the batches and return the same result. Raises LogitsError on all of them for logits that have
    no probabilities: with NaN or +inf, or with -inf alone.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    nats, n_targets = 0.0, 0
    failure: LogitsError | None = None
    # Weights that FSDP gathers in inference mode cannot be used in training again.
    without_gradient = torch.inference_mode if ranks.size == 1 else torch.no_grad
    for number, (batch, counts) in enumerate(ranks.round_robin(batches)):
        with without_gradient(), autocast(device, precision):
            _, loss = model(**batch_to(device, batch))
            if counts and failure is None and not math.isfinite(loss.item()):
                failure = _find_bad_logits(model, batch, number, ranks)
        if counts:
            batch_targets = count_targets(batch)
            nats += loss.item() * batch_targets
            n_targets += batch_targets
    model.train(was_training)
    ranks.raise_on_all_ranks(failure)
    total_nats, total_targets = ranks.all_reduce_sum(nats, n_targets)
    return Likelihood(total_nats, int(total_targets), n_bytes)


def _last_logits(model: Architecture, tokens: Tensor, n: int) -> Tensor:
    """Return the logits (V,) after the first `n` of tokens (1, T)."""
    logits: Tensor = model(tokens[:, :n])[0]
    return logits[0, -1]


def _find_bad_logits(model: Architecture, batch: Batch, number: int, ranks: Ranks) -> LogitsError | None:
    """Return the error of a batch whose loss is not finite, or None if only the probability of a target is 0."""
    advice = f"{CHECK_WEIGHTS} If they are finite, use the precision fp32."
    place = f"evaluation batch {number + 1}"
    if ranks.size > 1:  # the ranks may share the weights, so one of them cannot run the model alone
        return LogitsError(f"there is no loss: the logits of the model in {place} have NaN or +inf. {advice}")
    inputs = {
        name: tensor for name, tensor in batch_to(next(model.parameters()).device, batch).items() if name != "targets"
    }

    for row in range(len(inputs["tokens"])):
        sequence = {name: tensor[row : row + 1] for name, tensor in inputs.items()}
        logits = model(**sequence)[0][0]  # (T, V)
        if not bool(are_bad(logits).any()):
            continue
        if sequence.keys() == {"tokens"}:
            tokens = sequence["tokens"]
            n_read, found = find_first_bad(tokens.shape[1], partial(_last_logits, model, tokens))
            return LogitsError(
                f"there is no loss: the logits of the model after token {n_read} of sequence {row + 1} of {place} have "
                f"{found}. {advice}"
            )
        found = describe_bad_logits(logits[are_bad(logits)][0])
        return LogitsError(
            f"there is no loss: the logits of the model in sequence {row + 1} of {place} have {found}. {advice}"
        )
    return None


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

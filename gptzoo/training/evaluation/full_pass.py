"""The full pass: a model's loss over all held-out text, independent of batch size and seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.data.batching.batching import Batch
from gptzoo.errors import InputError, LogitsError
from gptzoo.model.architecture import Architecture
from gptzoo.training.distributed.ranks import SINGLE_RANK, Ranks, attempt
from gptzoo.training.hardware.device import autocast
from gptzoo.training.step.micro_batch import count_targets
from gptzoo.utils.bad_logits import CHECK_WEIGHTS, are_bad, describe_bad_logits, find_first_bad
from gptzoo.utils.likelihood import Likelihood
from gptzoo.utils.proportion import Proportion

MAX_TOKENS_PER_BATCH = 16384  # bounds memory; the result does not depend on it


class Scorer(Protocol):
    """The metrics of validation batches that a batching declares."""

    metric_names: tuple[str, ...]

    def hits(self, batch: Batch, predictions: np.ndarray) -> Mapping[str, tuple[int, int]]: ...


@dataclass(frozen=True)
class Measurement:
    """The likelihood of held-out text, and the metrics that its batching declares."""

    likelihood: Likelihood
    metrics: Mapping[str, Proportion]

    def as_run_metrics(self) -> dict[str, float]:
        """Return loss (nats per token), perplexity, bits per byte and the declared metrics, as a run records them."""
        return {
            "val/loss": self.likelihood.loss,
            "val/perplexity": self.likelihood.perplexity,
            "val/bits_per_byte": self.likelihood.bits_per_byte,
            **{f"val/{name}": proportion.value for name, proportion in self.metrics.items()},
        }


def measure(
    model: Architecture,
    batches: Iterable[Batch],
    *,
    n_bytes: int,
    scorer: Scorer | None = None,
    precision: str = "fp32",
    ranks: Ranks = SINGLE_RANK,
) -> Measurement:
    """Sum the loss over all targets in `batches`, which encode `n_bytes` of text. Each target has the same weight.

    scorer: a batching whose metrics are counted in the same pass.

    Several ranks split the batches and return the same result. Raises LogitsError on all of them for logits that have
    no probabilities: with NaN or +inf, or with -inf alone. Raises InputError if the architecture gives no predictions.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    nats, n_targets = 0.0, 0
    names = () if scorer is None else scorer.metric_names
    hits = np.zeros((len(names), 2), dtype=np.int64)
    failure: Exception | None = None
    # Weights that FSDP gathers in inference mode cannot be used in training again.
    without_gradient = torch.inference_mode if ranks.size == 1 else torch.no_grad
    for number, (batch, counts) in enumerate(ranks.round_robin(batches)):
        with without_gradient(), autocast(device, precision):
            auxiliary = AuxiliaryOutputs(wants_predictions=True) if names else None
            _, loss = model(**batch_to(device, batch), auxiliary=auxiliary)
            if counts and failure is None and not math.isfinite(loss.item()):
                failure = _find_bad_logits(model, batch, number, ranks)
        if counts:
            batch_targets = count_targets(batch)
            nats += loss.item() * batch_targets
            n_targets += batch_targets
            if scorer is not None and auxiliary is not None and failure is None:
                of_batch, failure = attempt(partial(_count_hits, scorer, batch, model, auxiliary))
                hits += 0 if of_batch is None else of_batch
        # The other ranks need this one for their batches, so several ranks raise together after the last batch.
        if failure is not None and ranks.size == 1:
            break
    model.train(was_training)
    ranks.raise_on_all_ranks(failure)
    total_nats, total_targets, *total_hits = ranks.all_reduce_sum(nats, n_targets, *map(float, hits.flatten()))
    metrics = {
        name: Proportion(int(right), int(asked))
        for name, right, asked in zip(names, total_hits[::2], total_hits[1::2], strict=True)
    }
    return Measurement(Likelihood(total_nats, int(total_targets), n_bytes), metrics)


def _count_hits(scorer: Scorer, batch: Batch, model: Architecture, auxiliary: AuxiliaryOutputs) -> np.ndarray:
    """Return the number right and the number asked of each metric, int64 (n_metrics, 2)."""
    of_batch = scorer.hits(batch, _predictions(model, auxiliary, scorer.metric_names))
    return np.array([of_batch[name] for name in scorer.metric_names], dtype=np.int64)


def _predictions(model: Architecture, auxiliary: AuxiliaryOutputs, names: tuple[str, ...]) -> np.ndarray:
    if "predictions" not in auxiliary.captures:
        raise InputError(
            f"{', '.join(names)}: gptzoo's output head computes the predictions for it, and architecture "
            f"{model.spec.architecture.type!r} has another head. Use another architecture or another corpus"
        )
    predictions: np.ndarray = auxiliary.captures["predictions"].cpu().numpy()
    return predictions


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


def batch_to(device: torch.device, batch: Batch) -> dict[str, Tensor]:
    """Return the arrays of a batch as tensors on the device."""
    return {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in batch.items()}

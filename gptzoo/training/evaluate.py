"""The measure of a model: one full pass over held-out text, the same whatever the batch size or the seed."""

from __future__ import annotations

import math

import numpy as np
import torch

from gptzoo.components.base import Architecture
from gptzoo.data.order import evaluation_windows
from gptzoo.training.device import autocast

_TOKENS_AT_ONCE = 16384  # bounds memory; the result does not depend on it


def evaluate(
    model: Architecture, tokens: np.ndarray, length: int, *, n_bytes: int, precision: str = "fp32"
) -> dict[str, float]:
    """Loss (nats per token), perplexity and bits per byte over contiguous windows of `length` tokens.

    Every token but the first is predicted once. `n_bytes` is the text that the predicted tokens stand for; bits per
    byte compare models of different tokenizers.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    nats, count = 0.0, 0
    for inputs, targets in _batches(tokens, length):
        with torch.inference_mode(), autocast(device, precision):
            _, loss = model(torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device))
        nats += loss.item() * targets.size
        count += targets.size
    model.train(was_training)
    loss = nats / count
    return {
        "val/loss": loss,
        "val/perplexity": math.exp(min(loss, 700.0)),  # exp(710) is more than a float holds
        "val/bits_per_byte": nats / math.log(2) / n_bytes,
    }


def _batches(tokens: np.ndarray, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(inputs, targets) of equal windows, batched; the shorter last window is a batch of its own."""
    at_once = max(1, _TOKENS_AT_ONCE // length)
    windows = list(evaluation_windows(len(tokens), length))
    whole = [start for start, size in windows if size == length]
    batches = []
    for first in range(0, len(whole), at_once):
        rows = np.stack([tokens[start : start + length + 1] for start in whole[first : first + at_once]]).astype(
            np.int64
        )
        batches.append((rows[:, :-1], rows[:, 1:]))
    for start, size in windows[len(whole) :]:
        row = tokens[start : start + size + 1][None].astype(np.int64)
        batches.append((row[:, :-1], row[:, 1:]))
    return batches

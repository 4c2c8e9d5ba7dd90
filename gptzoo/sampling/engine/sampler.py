"""Sampling of tokens from logits, reproducibly: each sequence has its own random generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sample_tokens(logits: Tensor, generators: Sequence[torch.Generator]) -> list[int]:
    """Sample one token per row from logits (B, V), by inverting the cumulative distribution.

    Every generator advances by one number, whether its row is random or not.
    """
    uniforms = draw_uniforms(generators)
    if bool((logits.isfinite().sum(dim=-1) == 1).all()):  # greedy: one token is left in each row
        return logits.argmax(dim=-1).tolist()
    return sample_from_weights(probabilities(logits), uniforms)


def draw_uniforms(generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one number in [0, 1) from each generator; (B, 1) float64."""
    return torch.stack([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])


def probabilities(logits: Tensor) -> Tensor:
    """Return the probabilities (B, V) of logits (B, V) as float64 on the CPU."""
    return logits.double().softmax(dim=-1).cpu()


def sample_from_weights(weights: Tensor, uniforms: Tensor) -> list[int]:
    """Return one token per row, given unnormalised weights (B, V) and uniform numbers (B, 1) in [0, 1)."""
    cumulative = weights.cumsum(dim=-1)
    return torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True).squeeze(-1).tolist()


def log_probabilities(logits: Tensor, tokens: Sequence[int]) -> list[float]:
    """Return the log-probability, in nats, of one token per row of logits (B, V)."""
    chosen = logits.gather(-1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    return (chosen - logits.logsumexp(dim=-1)).tolist()


def top_logprobs(logits: Tensor, n: int, vocab_size: int | None = None) -> dict[int, float]:
    """Return the `n` most likely tokens of logits (V,) with their log-probabilities in nats, the most likely first.

    vocab_size: number of token ids of the tokenizer. Further ids of the model are left out. Default: all ids.
    """
    log_probs = (logits - logits.logsumexp(dim=-1))[:vocab_size]
    values, ids = log_probs.topk(min(n, len(log_probs)))
    return dict(zip(ids.tolist(), values.tolist(), strict=True))

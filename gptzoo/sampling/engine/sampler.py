"""Sampling of tokens from logits, reproducibly: each sequence has its own random generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gptzoo.utils.transfer import tensor_on, widest_float


def sample_tokens(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Sample one token per row from logits (B, V), by inverting the cumulative distribution; (B,) int64.

    uniforms: numbers in [0, 1) from `draw_uniforms`. The same numbers give the same tokens, except for rounding.
    """
    if logits.is_cpu and bool((logits.isfinite().sum(dim=-1) == 1).all()):  # greedy: one token is left in each row
        return logits.argmax(dim=-1)
    shares = logits.to(widest_float(logits.device)).softmax(dim=-1)
    tokens = _invert_cumulative(shares, tensor_on(logits.device, uniforms.numpy()))
    return tokens.clamp(max=logits.shape[-1] - 1)  # logits that are not finite give an index after the last


def draw_uniforms(generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one number in [0, 1) from each generator; (B, 1) float64."""
    return torch.stack([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])


def probabilities(logits: Tensor) -> Tensor:
    """Return the probabilities (B, V) of logits (B, V) as float64 on the CPU."""
    return logits.to(widest_float(logits.device)).softmax(dim=-1).cpu().double()


def sample_from_weights(weights: Tensor, uniforms: Tensor) -> list[int]:
    """Return one token per row, given unnormalised weights (B, V) and uniform numbers (B, 1) in [0, 1)."""
    return _invert_cumulative(weights, uniforms).tolist()


def _invert_cumulative(weights: Tensor, uniforms: Tensor) -> Tensor:
    cumulative = weights.cumsum(dim=-1)
    return torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True).squeeze(-1)


def log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probability (B,), in nats, of one token (B,) per row of logits (B, V)."""
    return logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)


def top_logprobs(logits: Tensor, n: int, vocab_size: int | None = None) -> dict[int, float]:
    """Return the `n` most likely tokens of logits (V,) with their log-probabilities in nats, the most likely first.

    vocab_size: number of token ids of the tokenizer. Further ids of the model are left out. Default: all ids.
    """
    values, ids = top_values(logits[None], n, vocab_size)
    return dict(zip(ids[0].tolist(), values[0].tolist(), strict=True))


def top_values(logits: Tensor, n: int, vocab_size: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the `n` highest log-probabilities of each row of logits (B, V), and their tokens: (B, n) each."""
    log_probs = (logits - logits.logsumexp(dim=-1, keepdim=True))[:, :vocab_size]
    values, ids = log_probs.topk(min(n, log_probs.shape[-1]), dim=-1)
    return values, ids

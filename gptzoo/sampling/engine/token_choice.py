"""What every loop that writes rows needs: what it chose, how it draws, and what it refuses to begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.stopping import End
from gptzoo.sampling.spec import SamplingSpec


class Choice(NamedTuple):
    """A token that was chosen for a row."""

    token: int
    log_probability: float
    """In nats, by the model itself, before any processor: what `score` gives for the same text."""
    end: End | None = None
    """Why the row ends with it; a stop token is no part of what was written."""
    likeliest: Mapping[int, float] = {}
    """The tokens that the model itself finds likeliest here, the best first, in nats, where they are asked for."""


def log_probabilities(logits: Tensor, tokens: Sequence[int]) -> list[float]:
    """(B, V), one token a row -> in nats, by row."""
    chosen = logits.gather(-1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    return (chosen - logits.logsumexp(dim=-1)).tolist()


def likeliest(logits: Tensor, n: int) -> dict[int, float]:
    """Logits (V,) -> the `n` likeliest tokens, the best first, with their log-probabilities in nats."""
    values, ids = (logits - logits.logsumexp(dim=-1)).topk(min(n, len(logits)))
    return dict(zip(ids.tolist(), values.tolist(), strict=True))


def draw(logits: Tensor, generators: Sequence[torch.Generator]) -> list[int]:
    """One token a row, by inverting its cumulative distribution at a number from the row's own generator."""
    numbers = uniforms(generators)
    if bool((logits.isfinite().sum(dim=-1) == 1).all()):  # as a temperature of 0 leaves them: there is nothing to weigh
        return logits.argmax(dim=-1).tolist()
    return pick(distribution(logits), numbers)


def uniforms(generators: Sequence[torch.Generator]) -> Tensor:
    """(B, 1) float64 from 0 to below 1, one from each."""
    return torch.stack([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])


def distribution(logits: Tensor) -> Tensor:
    """Logits (B, V) -> probabilities (B, V), float64 on the CPU."""
    return logits.double().softmax(dim=-1).cpu()


def pick(weights: Tensor, numbers: Tensor) -> list[int]:
    """One token a row by its weight (B, V), which need not sum to one, at numbers (B, 1) from 0 to below 1."""
    cumulative = weights.cumsum(dim=-1)
    return torch.searchsorted(cumulative, numbers * cumulative[:, -1:], right=True).squeeze(-1).tolist()


def check(model: Architecture, prompts: Sequence[Sequence[int]], spec: SamplingSpec) -> None:
    """Raise InputError for what cannot be sampled, before anything is computed."""
    if not prompts:
        raise InputError("there is no prompt to go on from")
    vocab_size = model.spec.dims.vocab_size
    for prompt in prompts:
        if not prompt:
            raise InputError("a prompt is empty; give at least one token to go on from")
        if wrong := [token for token in prompt if not 0 <= token < vocab_size]:
            raise InputError(f"token id {wrong[0]} is outside the model's vocabulary of {vocab_size}")
    longest = max(map(len, prompts))
    room = model.remaining_length(longest)
    if room is not None and spec.max_new_tokens > room:
        names = ", ".join(sorted({config.type for config in model.spec.per_layer("positional")}))
        raise InputError(
            f"a prompt of {longest} tokens and {spec.max_new_tokens} new ones are more than positions reach; positional"
            f" {names} of this model has {model.max_length}: ask for at most {room} new tokens"
        )

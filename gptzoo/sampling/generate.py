"""The loop that feeds tokens back: one prefill, then one token a step for all rows, from the components' own caches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gptzoo.components.base import Architecture
from gptzoo.data.tokenizers import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.endings import End, Endings
from gptzoo.sampling.processors import build_processors, processed
from gptzoo.sampling.row import Row
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.seeds import derive


class Choice(NamedTuple):
    """A token that was chosen for a row."""

    token: int
    log_probability: float
    """In nats, by the model itself, before any processor: what `score` gives for the same text."""
    end: End | None = None
    """Why the row ends with it; a stop token is no part of what was written."""


def generate(
    model: Architecture,
    prompts: Sequence[Sequence[int]],
    spec: SamplingSpec | None = None,
    tokenizer: Tokenizer | None = None,
) -> list[list[int]]:
    """New token ids for each prompt (a sequence of ids). Raises InputError as `stream` does."""
    rows: list[list[int]] = [[] for _ in prompts]
    for chosen in stream(model, prompts, spec, tokenizer):
        for row, choice in zip(rows, chosen, strict=True):
            if choice is not None and choice.end != "stop_token":
                row.append(choice.token)
    return rows


@torch.inference_mode()
def stream(
    model: Architecture,
    prompts: Sequence[Sequence[int]],
    spec: SamplingSpec | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    streams: Sequence[int] | None = None,
) -> Iterator[list[Choice | None]]:
    """Yield what is chosen for every row, step by step; None for a row that has ended.

    `tokenizer` is for stop texts and for the processors that work on text. Row i draws from the random stream number
    `streams[i]` of the seed, left out number i. The model is put in eval mode.

    Raises InputError before the first token for an empty prompt, an id outside the vocabulary, or more tokens than the
    model's positions reach.
    """
    spec = spec or SamplingSpec()
    check(model, prompts, spec)
    model.eval()
    device = next(model.parameters()).device
    processors = build_processors(spec.processors, tokenizer)
    endings = Endings(spec, processors, tokenizer)
    numbers = range(len(prompts)) if streams is None else streams
    generators = [torch.Generator().manual_seed(derive(spec.seed, "sample", number)) for number in numbers]
    rows = [Row(list(prompt), len(prompt)) for prompt in prompts]
    ends = [endings.reason(row) for row in rows]
    if all(ends):
        return
    logits, states, positions = model.prime(prompts, spec.max_new_tokens)

    for index in range(spec.max_new_tokens):
        logits = logits.float()
        tokens = _draw(processed(processors, logits, rows), generators)
        scores = _log_probabilities(logits, tokens)
        for row, token in zip(rows, tokens, strict=True):
            row.tokens.append(token)
        ended, ends = ends, [end or endings.reason(row) for end, row in zip(ends, rows, strict=True)]
        chosen = map(Choice, tokens, scores, ends)
        yield [None if before else choice for before, choice in zip(ended, chosen, strict=True)]
        if all(ends):
            return
        step, _ = model(torch.tensor(tokens, device=device)[:, None], positions=positions + index, states=states)
        logits = step[:, -1]


def _log_probabilities(logits: Tensor, tokens: Sequence[int]) -> list[float]:
    """(B, V), one token a row -> in nats, by row."""
    chosen = logits.gather(-1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    return (chosen - logits.logsumexp(dim=-1)).tolist()


def _draw(logits: Tensor, generators: list[torch.Generator]) -> list[int]:
    """One token a row, by inverting its cumulative distribution at a number from the row's own generator."""
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1).cpu()
    uniform = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])  # (B, 1), below 1
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True).squeeze(-1).tolist()


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
    room = model.room(longest)
    if room is not None and spec.max_new_tokens > room:
        names = ", ".join(sorted({config.type for config in model.spec.per_layer("positional")}))
        raise InputError(
            f"a prompt of {longest} tokens and {spec.max_new_tokens} new ones are more than positions reach; positional"
            f" {names} of this model has {model.max_length}: ask for at most {room} new tokens"
        )

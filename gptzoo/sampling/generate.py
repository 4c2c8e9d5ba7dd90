"""The loop that feeds tokens back: one prefill, then one token a step for all rows, from the components' own caches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gptzoo.components.base import Architecture
from gptzoo.data.tokenizers import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.processors import build_processors
from gptzoo.sampling.row import Row
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.seeds import derive


def generate(
    model: Architecture,
    prompts: Sequence[Sequence[int]],
    spec: SamplingSpec | None = None,
    tokenizer: Tokenizer | None = None,
) -> list[list[int]]:
    """New token ids for each prompt (a sequence of ids). Raises InputError as `stream` does."""
    rows: list[list[int]] = [[] for _ in prompts]
    for chosen in stream(model, prompts, spec, tokenizer):
        for row, token in zip(rows, chosen, strict=True):
            if token is not None:
                row.append(token)
    return rows


@torch.inference_mode()
def stream(
    model: Architecture,
    prompts: Sequence[Sequence[int]],
    spec: SamplingSpec | None = None,
    tokenizer: Tokenizer | None = None,
) -> Iterator[list[int | None]]:
    """Yield the next token of every row, step by step; None for a row that has ended.

    Raises InputError before the first token for an empty prompt, an id outside the vocabulary, or more tokens than the
    model's positions reach. The model is put in eval mode. `tokenizer` is for the processors that work on text.
    """
    spec = spec or SamplingSpec()
    _check(model, prompts, spec)
    model.eval()
    device = next(model.parameters()).device
    processors = build_processors(spec.processors, tokenizer)
    generators = [torch.Generator().manual_seed(derive(spec.seed, "sample", row)) for row in range(len(prompts))]
    rows = [Row(list(prompt), len(prompt)) for prompt in prompts]
    ended = [any(process.finished(row) for process in processors) for row in rows]
    logits, states, positions = model.prime(prompts, spec.max_new_tokens)

    for index in range(spec.max_new_tokens):
        if all(ended):
            return
        logits = logits.float()
        for process in processors:
            logits = process(logits, rows)
        chosen = _draw(logits, generators)
        ended = [end or token in spec.stop_tokens for end, token in zip(ended, chosen, strict=True)]
        for row, token in zip(rows, chosen, strict=True):
            row.tokens.append(token)
        if all(ended):
            return
        yield [None if end else token for end, token in zip(ended, chosen, strict=True)]
        ended = [
            end or any(process.finished(row) for process in processors) for end, row in zip(ended, rows, strict=True)
        ]
        if index + 1 < spec.max_new_tokens and not all(ended):
            step, _ = model(torch.tensor(chosen, device=device)[:, None], positions=positions + index, states=states)
            logits = step[:, -1]


def _draw(logits: Tensor, generators: list[torch.Generator]) -> list[int]:
    """One token a row, by inverting its cumulative distribution at a number from the row's own generator."""
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1).cpu()
    uniform = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])  # (B, 1), below 1
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True).squeeze(-1).tolist()


def _check(model: Architecture, prompts: Sequence[Sequence[int]], spec: SamplingSpec) -> None:
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

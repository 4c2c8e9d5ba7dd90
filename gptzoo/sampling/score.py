"""How likely a model finds a text that is given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gptzoo.checkpoint.model_folder import Loaded
from gptzoo.data.utf8 import utf8
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.token_choice import likeliest
from gptzoo.sampling.text import tokenizer_of
from gptzoo.utils.likelihood import Likelihood

_LOGITS = 2**25  # at a time, where a single row needs no more; 128 MiB in float32


@dataclass(frozen=True)
class TextScore(Likelihood):
    """What a model makes of a text, token by token."""

    tokens: tuple[int, ...]  # that were predicted
    log_probabilities: tuple[float, ...]  # of each, in nats


def score_text(loaded: Loaded, text: str) -> TextScore:
    """The score of a text, read as training reads it: in windows of context_length, each token after those before it.

    It begins with the token that ends the text before; without one in the tokenizer, its first token is not predicted.
    Raises InputError for a text that leaves no token to predict.
    """
    tokenizer = tokenizer_of(loaded)
    tokens = list(tokenizer.encode(text))
    n_bytes = len(utf8(text))
    if tokenizer.eot is not None:
        tokens = [tokenizer.eot, *tokens]
    elif tokens:
        n_bytes -= len(tokenizer.decode_bytes(tokens[:1]))
    if len(tokens) < 2:
        raise InputError("there is nothing to score: the text needs at least one token after its first")
    length = loaded.spec.context_length
    windows = [tokens[start : start + length + 1] for start in range(0, len(tokens) - 1, length)]
    found = torch.cat(score(loaded.model, windows)).tolist()
    return TextScore(-math.fsum(found), len(found), n_bytes, tuple(tokens[1:]), tuple(found))


@torch.inference_mode()
def score(model: Architecture, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """The log-probability, in nats, of every token of each row but the first, given those before it in the row.

    Rows of ids, of any lengths -> a float32 tensor (length - 1,) for each, on the CPU, in the order of the rows. Rows
    are read side by side, as many as keep the logits bounded; one longer than context_length is read in parts, through
    the states that decoding uses. Raises InputError for what the model cannot read. The model is put in eval mode.
    """
    _check(model, rows)
    model.eval()
    scores = [torch.empty(0)] * len(rows)
    for batch in _batches(model, rows):
        longest = max(len(rows[index]) for index in batch)
        padded = [[*rows[index], *[0] * (longest - len(rows[index]))] for index in batch]  # no token sees a later one
        tokens = torch.tensor(padded, device=next(model.parameters()).device)
        for index, scored in zip(batch, _log_probabilities(model, tokens).cpu(), strict=True):
            scores[index] = scored[: len(rows[index]) - 1].clone()
    return scores


class ScoredToken(NamedTuple):
    """A token of a text as the model finds it there."""

    token: int
    log_probability: float  # in nats, given those before it
    likeliest: dict[int, float]  # the tokens that it finds likeliest there, the best first, in nats


@torch.inference_mode()
def score_beside_likeliest(model: Architecture, tokens: Sequence[int], n: int) -> list[ScoredToken]:
    """Every token of a row but the first, beside the `n` that the model finds likeliest there. Raises as `score`."""
    _check(model, [tokens])
    model.eval()
    if len(tokens) < 2:
        return []
    row = torch.tensor([list(tokens)], device=next(model.parameters()).device)
    scored = []
    for logits, targets in _read(model, row):
        for here, target in zip(logits[0].float().unbind(0), targets[0].tolist(), strict=True):
            scored.append(ScoredToken(target, float(here[target] - here.logsumexp(dim=-1)), likeliest(here, n)))
    return scored


def _batches(model: Architecture, rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of rows to be read together, of about one length; those of nothing to predict are left out."""
    order = sorted((index for index, row in enumerate(rows) if len(row) > 1), key=lambda index: -len(rows[index]))
    while order:
        width = min(len(rows[order[0]]) - 1, model.spec.context_length) * model.spec.dims.vocab_size
        n_rows = max(1, _LOGITS // width)
        yield order[:n_rows]
        order = order[n_rows:]


def _log_probabilities(model: Architecture, tokens: Tensor) -> Tensor:
    """(B, T + 1) tokens -> (B, T), of each after the first."""
    return torch.cat([_of_targets(logits, targets) for logits, targets in _read(model, tokens)], dim=1)


def _read(model: Architecture, tokens: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, T + 1) tokens -> the logits (B, T, V) and targets (B, T) of all after the first, part after part of T."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    length, part = inputs.shape[1], model.spec.context_length
    if length <= part:
        yield model(inputs)[0], targets
        return
    states = model.new_states(len(tokens), length)
    for start in range(0, length, part):
        positions = torch.arange(start, min(start + part, length), device=tokens.device)[None]
        logits, _ = model(inputs[:, start : start + part], positions=positions, states=states, no_past=start == 0)
        yield logits, targets[:, start : start + part]


def _of_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, T, V), (B, T) -> (B, T). Position by position, because log_softmax would take all the logits once more."""
    scored = [
        here.float().log_softmax(dim=-1).gather(-1, target[:, None])[:, 0]
        for here, target in zip(logits.unbind(1), targets.unbind(1), strict=True)
    ]
    return torch.stack(scored, dim=1)


def _check(model: Architecture, rows: Sequence[Sequence[int]]) -> None:
    if model.required_inputs:
        raise InputError(
            f"the model requires {' and '.join(sorted(model.required_inputs))} beside tokens; it scores no rows"
        )
    vocab_size = model.spec.dims.vocab_size
    for row in rows:
        if wrong := [token for token in row if not 0 <= token < vocab_size]:
            raise InputError(f"token id {wrong[0]} is outside the model's vocabulary of {vocab_size}")
    longest = max(map(len, rows), default=0) - 1
    if model.max_length is not None and longest > model.max_length:
        raise InputError(
            f"a row of {longest + 1} tokens is more than positions reach: this model has {model.max_length} of them, "
            "and reads all tokens but the last; cut the row into parts"
        )

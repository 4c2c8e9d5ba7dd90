"""Scoring: the log-probabilities of a given text under a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.utf8 import encode_utf8
from gptzoo.errors import InputError, LogitsError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.sampler import top_logprobs
from gptzoo.sampling.text import tokenizer_of
from gptzoo.utils.bad_logits import CHECK_WEIGHTS, are_bad, find_first_bad
from gptzoo.utils.likelihood import Likelihood

_MAX_LOGITS = 2**25  # per forward pass, unless one row needs more; 128 MiB in float32


@dataclass(frozen=True)
class TextScore(Likelihood):
    """The likelihood of a text, with the log-probability of each token."""

    tokens: tuple[int, ...]  # the predicted tokens
    log_probabilities: tuple[float, ...]  # of each predicted token, in nats


def score_text(loaded: LoadedModel, text: str, *, special_tokens: bool = False) -> TextScore:
    """Score a text as in training: in windows of context_length tokens, each token given those before it.

    BOS comes first if the tokenizer uses it, else the end-of-text token. If it has neither, the first token of the text
    is not predicted. Raises InputError for a text without any token to predict.

    special_tokens: read the name of a special token as that token, which has no bytes.
    """
    tokenizer = tokenizer_of(loaded)
    tokens = tokenizer.encode_text(text, special_tokens=special_tokens)
    n_given = max(1, len(tokenizer.prefix))  # the model predicts the others
    n_bytes = len(tokenizer.decode_bytes(tokens) if special_tokens else encode_utf8(text))
    if not tokenizer.prefix and tokenizer.eot is not None:
        tokens = [tokenizer.eot, *tokens]
    elif not tokenizer.prefix and tokens:
        n_bytes -= len(tokenizer.decode_bytes(tokens[:1]))
    if len(tokens) <= n_given:
        raise InputError("there is nothing to score. The text needs at least one token after its first.")
    length = loaded.spec.context_length
    windows = [tokens[start : start + length + 1] for start in range(0, len(tokens) - 1, length)]
    scores = _score_or_nan(loaded.model, windows)
    for number, (window, scored) in enumerate(zip(windows, scores, strict=True)):
        if scored.log_probabilities.isnan().any():
            raise _bad_logits_error(loaded.model, window, "the text", number * length)
    log_probs = torch.cat([scored.log_probabilities for scored in scores]).tolist()[n_given - 1 :]
    return TextScore(-math.fsum(log_probs), len(log_probs), n_bytes, tuple(tokens[n_given:]), tuple(log_probs))


@torch.inference_mode()
def score(model: Architecture, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return the log-probabilities, in nats, of all tokens but the first of each row of token ids.

    Returns a float32 tensor (length - 1,) on the CPU for each row. Rows may have any lengths. They are batched up to a
    bound on the number of logits. A row longer than context_length is read in chunks through the KV cache. The model is
    set to eval mode. Raises InputError for rows that the model cannot read, and LogitsError for logits that have no
    probabilities: with NaN or +inf, or with -inf alone.
    """
    return [scored.log_probabilities for scored in score_with_greedy(model, rows)]


class ScoredRow(NamedTuple):
    """The log-probabilities of all tokens but the first of a row, and which of them greedy decoding would choose."""

    log_probabilities: Tensor  # (length - 1,) float32, in nats
    is_greedy: Tensor  # (length - 1,) bool


@torch.inference_mode()
def score_with_greedy(model: Architecture, rows: Sequence[Sequence[int]]) -> list[ScoredRow]:
    """Score rows as `score` does. Also return for each token if it has the greatest logit of its position."""
    scores = _score_or_nan(model, rows)
    for index, scored in enumerate(scores):
        if scored.log_probabilities.isnan().any():
            raise _bad_logits_error(model, rows[index], f"row {index}")
    return scores


def _bad_logits_error(model: Architecture, tokens: Sequence[int], text: str, n_before: int = 0) -> LogitsError:
    """Return the error of tokens that have no likelihood. They follow `n_before` tokens of `text`, unread."""
    n_read, found = find_first_bad(len(tokens) - 1, lambda n: _last_logits(model, tokens[:n]))
    return LogitsError(
        f"there is no likelihood: the logits of the model for token {n_before + n_read + 1} of {text}, after "
        f"{n_before + n_read} tokens, have {found}. {CHECK_WEIGHTS}"
    )


@torch.inference_mode()
def _last_logits(model: Architecture, tokens: Sequence[int]) -> Tensor:
    """Return the logits (V,) after tokens."""
    row = torch.tensor([[*tokens, 0]], device=next(model.parameters()).device)  # the last token is a target
    *_, (logits, _) = _chunks(model, row)
    return logits[0, -1].float()


@torch.inference_mode()
def _score_or_nan(model: Architecture, rows: Sequence[Sequence[int]]) -> list[ScoredRow]:
    """Score rows as `score_with_greedy` does, with NaN for tokens whose logits have no probabilities."""
    _check_rows(model, rows)
    model.eval()
    scores = [ScoredRow(torch.empty(0), torch.empty(0, dtype=torch.bool))] * len(rows)
    for batch in _batches(model, rows):
        longest = max(len(rows[index]) for index in batch)
        # Padding on the right is harmless: no token attends to a later one. Only NaN would spread to earlier ones.
        padded = [[*rows[index], *[0] * (longest - len(rows[index]))] for index in batch]
        tokens = torch.tensor(padded, device=next(model.parameters()).device)
        for number, (index, scored) in enumerate(
            zip(batch, zip(*_score_batch(model, tokens), strict=True), strict=True)
        ):
            scores[index] = ScoredRow(*(values[: len(rows[index]) - 1].clone() for values in scored))
            if len(rows[index]) < longest and scores[index].log_probabilities.isnan().any():
                alone = _score_batch(model, tokens[number : number + 1, : len(rows[index])])
                scores[index] = ScoredRow(*(values[0] for values in alone))
    return scores


class ScoredToken(NamedTuple):
    """A token of a given text with its log-probability."""

    token: int
    log_probability: float | None  # in nats, given the tokens before it; None for the first token of a text
    top_logprobs: dict[int, float]  # log-probabilities (nats) of the top tokens at this position, sorted


@torch.inference_mode()
def score_with_top_logprobs(
    model: Architecture, tokens: Sequence[int], n: int, vocab_size: int | None = None
) -> list[ScoredToken]:
    """Score all tokens but the first, each with the `n` most likely tokens at its position. Raises as `score` does.

    vocab_size: number of token ids of the tokenizer. Further ids of the model are not listed. Default: all ids.
    """
    _check_rows(model, [tokens])
    model.eval()
    if len(tokens) < 2:
        return []
    row = torch.tensor([list(tokens)], device=next(model.parameters()).device)
    scored = []
    for chunk_logits, targets in _chunks(model, row):
        for logits, target in zip(chunk_logits[0].float().unbind(0), targets[0].tolist(), strict=True):
            if bool(are_bad(logits)):
                raise _bad_logits_error(model, tokens, "the prompt")
            log_probability = float(logits[target] - logits.logsumexp(dim=-1))
            scored.append(ScoredToken(target, log_probability, top_logprobs(logits, n, vocab_size)))
    return scored


def _batches(model: Architecture, rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield the indices of rows to score together, of similar lengths. Rows without a target are left out."""
    order = sorted((index for index, row in enumerate(rows) if len(row) > 1), key=lambda index: -len(rows[index]))
    while order:
        logits_per_row = min(len(rows[order[0]]) - 1, model.spec.context_length) * model.spec.dims.vocab_size
        n_rows = max(1, _MAX_LOGITS // logits_per_row)
        yield order[:n_rows]
        order = order[n_rows:]


def _score_batch(model: Architecture, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Map tokens (B, T + 1) to the log-probabilities (B, T) of all tokens but the first, and if they are greedy."""
    log_probs, is_greedy = [], []
    for logits, targets in _chunks(model, tokens):
        log_probs.append(_gather_log_probs(logits, targets))
        is_greedy.append(logits.argmax(dim=-1) == targets)
    return torch.cat(log_probs, dim=1).cpu(), torch.cat(is_greedy, dim=1).cpu()


def _chunks(model: Architecture, tokens: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (B, T, V) and targets (B, T) for tokens (B, T + 1), in chunks of context_length positions."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    length, chunk = inputs.shape[1], model.spec.context_length
    if length <= chunk:
        yield model(inputs)[0], targets
        return
    states = model.new_states(len(tokens), length)
    for start in range(0, length, chunk):
        positions = torch.arange(start, min(start + chunk, length), device=tokens.device)[None]
        logits, _ = model(inputs[:, start : start + chunk], positions=positions, states=states, no_past=start == 0)
        yield logits, targets[:, start : start + chunk]


def _gather_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """Map logits (B, T, V) and targets (B, T) to log-probabilities (B, T).

    One position at a time, because log_softmax over all positions would need the memory of the logits again.
    """
    log_probs = []
    for position_logits, target in zip(logits.unbind(1), targets.unbind(1), strict=True):
        chosen = position_logits.float().log_softmax(dim=-1).gather(-1, target[:, None])[:, 0]
        log_probs.append(chosen.masked_fill(are_bad(position_logits), torch.nan))  # -inf beside +inf, for example
    return torch.stack(log_probs, dim=1)


def _check_rows(model: Architecture, rows: Sequence[Sequence[int]]) -> None:
    """Raise InputError unless the model can score the rows."""
    if model.required_inputs:
        names = " and ".join(sorted(model.required_inputs))
        raise InputError(f"the model requires {names} in addition to tokens, so it cannot score rows of tokens")
    vocab_size = model.spec.dims.vocab_size
    for row in rows:
        if unknown := [token for token in row if not 0 <= token < vocab_size]:
            raise InputError(f"token id {unknown[0]} is outside the model's vocabulary of {vocab_size} tokens")
    longest = max(map(len, rows), default=0)
    if model.max_length is not None and longest - 1 > model.max_length:
        raise InputError(
            f"a row of {longest} tokens is too long: this model has {model.max_length} positions, and it reads all "
            "tokens but the last. Split the row."
        )

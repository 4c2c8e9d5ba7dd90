"""From the logits of a model to the logits that the next token is drawn from, with a separate error for each row."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

from gptzoo.errors import InputError, LogitsError
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.processors.processor import NEG_INF, apply_processors
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.utils.bad_logits import CHECK_WEIGHTS, are_bad, describe_bad_logits


def process_logits(
    stopping: StoppingCriteria, logits: Tensor, sequences: Sequence[TokenSequence], model_name: str = "the model"
) -> tuple[Tensor, dict[int, InputError]]:
    """Exclude the token ids that cannot come next, and apply the logits processors to logits (B, V).

    Excluded are ids that the tokenizer does not have, and tokens that would end a text before `min_new_tokens`. Also
    returns the errors of the rows from which no token can be drawn, by row. The logits of these rows are
    meaningless. An error does not change the logits of other rows.
    """
    possible = _exclude_spare_ids(logits, stopping.vocab_size)
    errors: dict[int, InputError] = dict(_check_logits(logits, possible, sequences, model_name))
    possible = _exclude_early_ends(stopping, possible, sequences, errors)
    if not errors:
        with contextlib.suppress(InputError):
            return apply_processors(stopping.processors, possible, sequences), errors
    # One row failed, so process each row alone.
    processed = possible.clone()
    for row, sequence in enumerate(sequences):
        if row not in errors:
            try:
                processed[row] = apply_processors(stopping.processors, possible[row : row + 1], [sequence])[0]
            except InputError as error:
                errors[row] = error
    return processed, errors


def process_logits_or_raise(stopping: StoppingCriteria, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
    """Process logits (B, V) as `process_logits` does, and raise the first error."""
    processed, errors = process_logits(stopping, logits, sequences)
    for error in errors.values():
        raise error
    return processed


def _exclude_spare_ids(logits: Tensor, vocab_size: int | None) -> Tensor:
    """Exclude the token ids of logits (B, V) from `vocab_size` on. None: all ids are in use."""
    if vocab_size is None or vocab_size >= logits.shape[-1]:
        return logits
    possible = logits.clone()
    possible[:, vocab_size:] = NEG_INF
    return possible


def _exclude_early_ends(
    stopping: StoppingCriteria, logits: Tensor, sequences: Sequence[TokenSequence], errors: dict[int, InputError]
) -> Tensor:
    """Exclude the tokens that end a text from the rows with fewer than `min_new_tokens` tokens.

    Adds an error for each row that has no other token.
    """
    n_min = stopping.spec.min_new_tokens
    end_tokens = [token for token in stopping.end_tokens if token < logits.shape[-1]]
    rows = [row for row, sequence in enumerate(sequences) if sequence.n_new < n_min and row not in errors]
    if not rows or not end_tokens:
        return logits
    possible = logits.clone()
    possible[torch.tensor(rows)[:, None], torch.tensor(end_tokens)] = NEG_INF
    if bool((possible.amax(dim=-1) == NEG_INF).any()):
        for row in (possible[rows].amax(dim=-1) == NEG_INF).nonzero()[:, 0].tolist():
            sequence = sequences[rows[row]]
            errors[rows[row]] = InputError(
                f"no token is possible at new token {sequence.n_new + 1}: the text needs {n_min} tokens before a stop "
                "token, and every token is a stop token. Lower the minimum, or have fewer stop tokens."
            )
    return possible


def _check_logits(
    logits: Tensor, possible: Tensor, sequences: Sequence[TokenSequence], model_name: str
) -> dict[int, LogitsError]:
    """Return an error for each row of logits (B, V) that has NaN or +inf, or no possible token."""
    is_bad = are_bad(logits)
    if possible is not logits:
        is_bad |= are_bad(possible)
    if not bool(is_bad.any()):
        return {}
    errors = {}
    for row in is_bad.nonzero()[:, 0].tolist():
        errors[row] = LogitsError(
            f"no token can be drawn: the logits of {model_name} for new token {sequences[row].n_new + 1}, after "
            f"{len(sequences[row].tokens)} tokens, have {describe_bad_logits(logits[row])}. {CHECK_WEIGHTS} If they "
            "are finite, use --dtype float32."
        )
    return errors

"""From the logits of a model to the logits that the next token is drawn from, with a separate error for each row."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from torch import Tensor

from gptzoo.errors import InputError, LogitsError
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.processors.processor import NEG_INF, apply_processors, apply_processors_unchecked
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.utils.bad_logits import CHECK_WEIGHTS, are_bad, describe_bad_logits
from gptzoo.utils.transfer import tensor_on


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
    _check_early_ends(stopping, possible, sequences, errors)
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


def process_logits_unchecked(
    stopping: StoppingCriteria, logits: Tensor, sequences: Sequence[TokenSequence]
) -> tuple[Tensor, Tensor]:
    """Process logits (B, V) as `process_logits` does, but look at no number, so that the host does not wait for a GPU.

    Also returns a bool mask (B,). If it is True anywhere, the result is meaningless, and `process_logits` gives the
    errors. Raises InputError if a processor does.
    """
    possible = _exclude_early_ends(stopping, _exclude_spare_ids(logits, stopping.vocab_size), sequences, {})
    processed, is_bad = apply_processors_unchecked(stopping.processors, possible, sequences)
    return processed, is_bad if possible is logits else is_bad | are_bad(logits)


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
    """Exclude the tokens that end a text from the rows with fewer than `min_new_tokens` tokens and without an error."""
    end_tokens = [token for token in stopping.end_tokens if token < logits.shape[-1]]
    rows = _rows_without_end(stopping, sequences, errors)
    if not rows or not end_tokens:
        return logits
    possible = logits.clone()
    possible[tensor_on(logits.device, rows)[:, None], tensor_on(logits.device, end_tokens)] = NEG_INF
    return possible


def _check_early_ends(
    stopping: StoppingCriteria, possible: Tensor, sequences: Sequence[TokenSequence], errors: dict[int, InputError]
) -> None:
    """Add an error for each row of possible logits (B, V) in which nothing but tokens that end a text was possible."""
    rows = _rows_without_end(stopping, sequences, errors)
    if not rows:
        return
    for row in (possible[rows].amax(dim=-1) == NEG_INF).nonzero()[:, 0].tolist():
        errors[rows[row]] = InputError(
            f"no token is possible at new token {sequences[rows[row]].n_new + 1}: the text needs "
            f"{stopping.spec.min_new_tokens} tokens before a stop token, and every token is a stop token. Lower the "
            "minimum, or have fewer stop tokens."
        )


def _rows_without_end(
    stopping: StoppingCriteria, sequences: Sequence[TokenSequence], errors: dict[int, InputError]
) -> list[int]:
    """Return the rows without an error whose text must not end yet."""
    n_min = stopping.spec.min_new_tokens
    return [row for row, sequence in enumerate(sequences) if sequence.n_new < n_min and row not in errors]


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

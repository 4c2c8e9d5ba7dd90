"""Decoding at size: the cache, its rows, rollback and the engine."""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo.model.architecture import States
from gptzoo.model.stack import Stack
from gptzoo.testing.at_size.plan import Sizes
from gptzoo.testing.at_size.search import AtSize
from gptzoo.testing.at_size.trial import Trial
from gptzoo.testing.compare import TOLERANCE, first_difference, relative_difference
from gptzoo.testing.properties.at_size.forward import logits_of
from gptzoo.testing.properties.decoding.cached_decoding import decode
from gptzoo.testing.properties.decoding.engine import check_continuous_batching
from gptzoo.testing.properties.decoding.state import tensors_of
from gptzoo.testing.verdict import Failed, Skipped

_UNKNOWN_PAST, _LARGE_STATE = 1, 2  # variants of decoding
_MAX_SINGLE_STEPS = 8


def check_decoding(trial: Trial) -> None:
    """Compare tokens that are fed in chunks with one forward pass."""
    model, tokens, sizes = trial.model(), trial.tokens(), list(trial.parts)
    no_past, extra = not trial.has_variant(_UNKNOWN_PAST), 140 * trial.has_variant(_LARGE_STATE)
    logits = decode(model, tokens, sizes, no_past=no_past, n_slots=trial.length + extra)
    difference = relative_difference(logits, logits_of(model, tokens))
    if difference.max() > TOLERANCE:
        row, token = first_difference(difference, TOLERANCE)
        raise Failed(
            f"the logits of {trial.length} tokens fed in chunks of {sizes}{'' if no_past else ' with no_past False'} "
            f"differ from those of one forward pass by {difference.max():.2g}, first at token {token}"
            + _of_rows(trial, row)
        )


def check_state(trial: Trial) -> None:
    """Check that every tensor of the state keeps its identity, shape and dtype while tokens are fed."""
    model, tokens = trial.model(), trial.tokens()
    states = _new_states(model, trial.batch_size, trial.length)
    others = {
        tensor.data_ptr(): name for name, tensor in tensors_of(_new_states(model, trial.batch_size, trial.length))
    }
    for name, tensor in tensors_of(states):
        if tensor.numel() and tensor.data_ptr() in others:
            raise Failed(
                f"two states for {trial.batch_size} rows of {trial.length} tokens share the memory of {name}; allocate "
                "new tensors in new_state"
            )
    original = {name: (tensor, tensor.shape, tensor.dtype) for name, tensor in tensors_of(states)}
    start = 0
    for size in trial.parts:
        _feed(model, tokens, start, start + size, states)
        start += size
        for name, tensor in tensors_of(states):
            if tensor is not original[name][0]:
                raise Failed(
                    f"after {start} tokens fed in chunks of {list(trial.parts)}, the state {name} has been replaced; "
                    "write into it: a CUDA graph keeps the old one"
                )
            if (tensor.shape, tensor.dtype) != original[name][1:]:
                raise Failed(f"after {start} tokens the state {name} has another shape or dtype")


def check_reorder(trial: Trial) -> None:
    """Feed a prefix, reorder the rows of the state with repetitions, and feed the rest."""
    model, tokens = trial.model(), trial.tokens()
    (prefix, *chunks), B = trial.parts, trial.batch_size
    states = _new_states(model, B, trial.length)
    order = torch.tensor([B - 1, 0, *range(B - 2)][:B])
    order[B // 2] = 0
    _feed(model, tokens, 0, prefix, states)
    for layer in states:
        for state in layer.values():
            for name in list(state):
                state[name] = state[name][order].clone()
    expected = logits_of(model, tokens[order])
    start = prefix
    for size in chunks:
        logits = _feed(model, tokens[order], start, start + size, states)
        difference = relative_difference(logits, expected[:, start : start + size])
        if difference.max() > TOLERANCE:
            row, token = first_difference(difference, TOLERANCE)
            raise Failed(
                f"after {prefix} tokens and reordering the state to rows {order.tolist()}, the logits of token "
                f"{start + token} in row {row} differ by {difference.max():.2g}"
            )
        start += size


def check_reset(trial: Trial) -> None:
    """Feed a prefix, overwrite every second row of the state with an empty one, and decode step by step."""
    model, tokens, B = trial.model(), trial.tokens(), trial.batch_size
    prefix, n_steps = trial.parts[0], min(sum(trial.parts[1:]), _MAX_SINGLE_STEPS)
    states = _new_states(model, B, trial.length)
    _feed(model, tokens, 0, prefix, states)
    empty = dict(tensors_of(model.new_states(1, trial.length)))
    is_reset = torch.arange(B) % 2 == 1
    for name, tensor in tensors_of(states):
        tensor[is_reset] = empty[name]
    new_rows = trial.tokens(B, n_steps, seed=9)
    fed = torch.where(is_reset[:, None], new_rows, tokens[:, prefix : prefix + n_steps])
    first = torch.where(is_reset, 0, prefix)[:, None]
    with torch.no_grad():
        logits = [model(fed[:, [t]], positions=first + t, states=states)[0] for t in range(n_steps)]
    kept = logits_of(model, tokens[:, : prefix + n_steps])[:, prefix:]
    expected = torch.where(is_reset[:, None, None], logits_of(model, new_rows), kept)
    difference = relative_difference(torch.cat(logits, dim=1), expected)
    if difference.max() > TOLERANCE:
        row, token = first_difference(difference, TOLERANCE)
        what = "that was reset" if is_reset[row] else "that was kept"
        raise Failed(
            f"after {prefix} tokens in {B} rows and resetting every second row of the state, new token {token} of row "
            f"{row}, {what}, has logits that differ by {difference.max():.2g}"
        )


def check_rollback(trial: Trial) -> None:
    """Feed all tokens, and continue after the first part with other tokens."""
    model, tokens = trial.model(), trial.tokens()
    states = _new_states(model, trial.batch_size, trial.length)
    for block, layer in zip(model.blocks, states, strict=True):
        if not all(getattr(block, name).supports_rollback for name in layer):
            return
    start = trial.parts[0]
    other = torch.cat([tokens[:, :start], trial.other(tokens[:, start:])], dim=1)
    expected = logits_of(model, other)
    _feed(model, tokens, 0, trial.length, states)
    for size in trial.parts[1:]:
        logits = _feed(model, other, start, start + size, states)
        difference = relative_difference(logits, expected[:, start : start + size])
        if difference.max() > TOLERANCE:
            row, token = first_difference(difference, TOLERANCE)
            raise Failed(
                f"it sets supports_rollback, but after {trial.length} tokens, continuing from position "
                f"{trial.parts[0]} with other tokens in chunks of {list(trial.parts[1:])} gives logits that differ by "
                f"{difference.max():.2g}, first at position {start + token}" + _of_rows(trial, row)
            )
        start += size


def check_engine(trial: Trial) -> None:
    """Generate from prompts of several lengths, alone, in shared slots and with a draft model.

    The parts are the lengths of prompts. Each slot has at least one prompt.
    """
    fewest = 2 if trial.model().required_inputs else 1
    lengths = [max(fewest, trial.parts[i % len(trial.parts)] - i // len(trial.parts)) for i in range(_n_prompts(trial))]
    max_length = max(lengths) + 8
    context_length = max(max_length, trial.case.resolved_context_length)
    model, draft = (trial.model(seed=seed, context_length=context_length, supply_inputs=False) for seed in range(2))
    prompts = [(trial.tokens(1, n, seed=i)[0].tolist(), 3 + i % 3) for i, n in enumerate(lengths)]
    n_draft_tokens = 9 if trial.has_variant(1) else 3
    check_continuous_batching(model, draft, prompts, max_length, (trial.batch_size,), n_draft_tokens)


def _n_prompts(trial: Trial) -> int:
    return max(len(trial.parts), trial.batch_size)


@torch.no_grad()
def _feed(model: Stack, tokens: Tensor, start: int, end: int, states: States) -> Tensor:
    return model(tokens[:, start:end], positions=torch.arange(start, end)[None], states=states, no_past=start == 0)[0]


def _new_states(model: Stack, batch_size: int, length: int) -> States:
    states = model.new_states(batch_size, length)
    if not dict(tensors_of(states)):
        raise Skipped("it keeps no state")
    return states


def _of_rows(trial: Trial, row: int) -> str:
    return f" of row {row} of {trial.batch_size}" if trial.batch_size > 1 else ""


_CHUNKS = (
    *(
        (63, 1, 1, 1),
        (64, 1, 64),
        (127, 1, 1),
        (1, 64, 1, 1),
        (65, 1, 2, 33),
        (31, 33, 1, 7),
        (128, 1),
        (1,) * 20,
        (1,) * 90,
    ),
    *((7, 1, 8, 1, 9), (16, 16, 1, 32, 1), (33, 1, 1, 65), (100, 29), (2, 62, 1, 1), (15, 17, 1), (9, 1, 1), (1, 1)),
    *((66, 63), (3, 30, 31, 1), (8, 8, 8, 1), (126, 1, 1, 1), (17, 1, 17), (1, 127, 1), (32, 1, 31, 1, 1), (64, 64, 1)),
    *((129, 1, 1), (128, 129), (255, 1, 1), (1, 256), (63, 2, 64, 1, 127)),
)
_PREFIXES = (
    *((63, 1, 1, 1), (64, 1, 1), (10, 1, 60), (127, 1, 1), (33, 32, 1), (3, 65, 1), (65, 1, 63), (16, 1, 16), (7, 2)),
    *((1, 1, 1), (120, 8, 1), (31, 1, 33), (128, 1), (9, 9, 9), (100, 1), (17, 1), (129, 1, 1), (200, 56, 1)),
)
_PROMPTS = ((3, 65, 17, 1, 33), (33, 9), (64, 63, 2, 64), (127, 5, 31, 128), (9, 8, 16), (129, 40, 1), (250, 7, 100))
DECODING = AtSize(
    check_decoding, Sizes(_CHUNKS, min_parts=1, max_parts=6, n_variants=4, share=1.2, may_exceed_context=True)
)
STATE = AtSize(check_state, Sizes(_CHUNKS, max_parts=4, share=0.4))
REORDER = AtSize(check_reorder, Sizes(_PREFIXES, min_parts=2, max_parts=3, min_batch_size=2, may_exceed_context=True))
RESET = AtSize(check_reset, Sizes(_PREFIXES, min_parts=2, max_parts=3, min_batch_size=2, may_exceed_context=True))
ROLLBACK = AtSize(check_rollback, Sizes(_PREFIXES, min_parts=2, max_parts=3, may_exceed_context=True))
ENGINE = AtSize(check_engine, Sizes(_PROMPTS, max_parts=5, n_variants=2, share=0.4))

"""Cached decoding gives the logits of one forward pass."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from gptzoo.model.architecture import Architecture
from gptzoo.testing.compare import TOLERANCE, first_difference, relative_difference
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed

_LENGTH_WITHOUT_LIMIT = 24  # longer than the context, for models whose positions have no limit
_SMALL_SPLITS: tuple[Sequence[int], ...] = ([1], [2], [1, 1], [1, 2], [2, 1], [1, 1, 1], [3, 2])


def check_decoding(subject: ModelPartUnderTest) -> None:
    """Check that cached decoding gives the same logits as one forward pass, for any chunk sizes."""
    model = subject.model(dtype=torch.float64)
    length = TINY_MODEL["context_length"] if model.max_length is not None else _LENGTH_WITHOUT_LIMIT
    tokens = subject.tokens(2, length)
    for no_past in (True, False):

        def differs(sizes: Sequence[int], no_past: bool = no_past) -> bool:
            return bool(_difference(model, tokens, sizes, no_past).max() > TOLERANCE)

        for sizes in _splits(length) if no_past else _SMALL_SPLITS:
            if differs(sizes):
                raise Failed(_counterexample(model, tokens, shrink(sizes, differs), no_past))


@torch.no_grad()
def decode(
    model: Architecture,
    tokens: Tensor,
    sizes: Sequence[int],
    *,
    positions: Tensor | None = None,
    no_past: bool = True,
    n_slots: int | None = None,
) -> Tensor:
    """Feed tokens in chunks of the given sizes and return the logits (B, T, V).

    positions: of all tokens; by default 0, 1, 2, …
    no_past: set `context.no_past` for the first chunk, which promises that the cache is empty.
    n_slots: number of tokens for which states are allocated; by default that of `tokens`.
    """
    states = model.new_states(len(tokens), n_slots or tokens.shape[1])
    if positions is None:
        positions = torch.arange(sum(sizes))[None]
    chunks = zip(tokens[:, : sum(sizes)].split(list(sizes), 1), positions.split(list(sizes), 1), strict=True)
    logits = [
        model(chunk, positions=chunk_positions, states=states, no_past=no_past and index == 0)[0]
        for index, (chunk, chunk_positions) in enumerate(chunks)
    ]
    return torch.cat(logits, dim=1)


def shrink(sizes: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> Sequence[int]:
    """Return the simplest split that still fails: with fewer chunks first, then with smaller ones."""
    for simpler in _simpler_splits(sizes):
        if fails(simpler):
            return shrink(simpler, fails)
    return sizes


def _simpler_splits(sizes: Sequence[int]) -> Iterator[Sequence[int]]:
    n = len(sizes)
    if n > 1:
        yield sizes[:-1]
    for i in range(n - 1):
        yield [*sizes[:i], sizes[i] + sizes[i + 1], *sizes[i + 2 :]]
    for i in range(n):
        if sizes[i] > 1:
            yield [*sizes[:i], sizes[i] - 1, *sizes[i + 1 :]]


def _splits(length: int) -> Iterator[Sequence[int]]:
    """Yield small splits, one token at a time, a long prompt, and some random splits."""
    yield from (*_SMALL_SPLITS, [1] * length, [length - 1, 1], [1, length - 1])
    rng = random.Random(0)
    for _ in range(5):
        sizes: list[int] = []
        while (remaining := length - sum(sizes)) > 0:
            sizes.append(rng.randint(1, min(remaining, 9)))
        yield sizes


@torch.no_grad()
def _difference(model: Architecture, tokens: Tensor, sizes: Sequence[int], no_past: bool) -> Tensor:
    expected = model(tokens[:, : sum(sizes)], positions=torch.arange(sum(sizes))[None])[0]
    return relative_difference(decode(model, tokens, sizes, no_past=no_past), expected)


def _counterexample(model: Architecture, tokens: Tensor, sizes: Sequence[int], no_past: bool) -> str:
    difference = _difference(model, tokens, sizes, no_past)
    _, token = first_difference(difference, TOLERANCE)
    context_length = TINY_MODEL["context_length"]
    beyond = f" (context_length is {context_length})" if sum(sizes) > context_length else ""
    flag = "" if no_past else " with no_past False"
    return (
        f"the logits of {sum(sizes)} tokens{beyond} fed in chunks of {list(sizes)}{flag} differ from those of one "
        f"forward pass by {difference.max():.2g}, first at token {token}"
    )

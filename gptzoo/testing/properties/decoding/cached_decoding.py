"""Generating token by token gives what one forward over the whole text gives."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gptzoo.testing.compare import CLOSE, distance, where
from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed

BEYOND = 24  # tokens, where positions reach beyond the context length


def decoding(subject: PartSubject) -> None:
    """Cached decoding in chunks of any sizes equals one forward, beyond the context length too if positions reach."""
    model = subject.model(dtype=torch.float64)
    limit = HOST["context_length"] if model.max_length is not None else BEYOND
    tokens = subject.tokens(2, limit)
    for promise in (True, False):

        def fails(sizes: Sequence[int], promise: bool = promise) -> bool:
            return _difference(model, tokens, sizes, promise).max() > CLOSE  # type: ignore[return-value]

        for sizes in _splits(limit) if promise else _SMALL:
            if fails(sizes):
                raise Failed(_told(model, tokens, shrunk(sizes, fails), promise))


@torch.no_grad()
def decode(
    model: Any, tokens: Tensor, sizes: Sequence[int], *, positions: Tensor | None = None, promise: bool = True
) -> Tensor:
    """The logits (B, T, V) of tokens fed in chunks. With `promise`, the first is told that nothing is cached yet."""
    states = model.new_states(len(tokens), tokens.shape[1])
    if positions is None:
        positions = torch.arange(sum(sizes))[None]
    chunks = zip(tokens[:, : sum(sizes)].split(list(sizes), 1), positions.split(list(sizes), 1), strict=True)
    parts = [
        model(chunk, positions=at, states=states, no_past=promise and index == 0)[0]
        for index, (chunk, at) in enumerate(chunks)
    ]
    return torch.cat(parts, dim=1)


_SMALL: tuple[Sequence[int], ...] = ([1], [2], [1, 1], [1, 2], [2, 1], [1, 1, 1], [3, 2])


def shrunk(sizes: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> Sequence[int]:
    """The simplest split that still fails: fewer chunks first, then smaller ones."""
    for simpler in _simpler(sizes):
        if fails(simpler):
            return shrunk(simpler, fails)
    return sizes


def _simpler(sizes: Sequence[int]) -> Iterator[Sequence[int]]:
    n = len(sizes)
    if n > 1:
        yield sizes[:-1]
    for i in range(n - 1):
        yield [*sizes[:i], sizes[i] + sizes[i + 1], *sizes[i + 2 :]]
    for i in range(n):
        if sizes[i] > 1:
            yield [*sizes[:i], sizes[i] - 1, *sizes[i + 1 :]]


def _splits(limit: int) -> Iterator[Sequence[int]]:
    """Small ones, one token at a time, a long prompt, and some at random."""
    yield from (*_SMALL, [1] * limit, [limit - 1, 1], [1, limit - 1])
    rng = random.Random(0)
    for _ in range(5):
        sizes: list[int] = []
        while (left := limit - sum(sizes)) > 0:
            sizes.append(rng.randint(1, min(left, 9)))
        yield sizes


@torch.no_grad()
def _difference(model: Any, tokens: Tensor, sizes: Sequence[int], promise: bool) -> Tensor:
    full = model(tokens[:, : sum(sizes)], positions=torch.arange(sum(sizes))[None])[0]
    return distance(decode(model, tokens, sizes, promise=promise), full)


def _told(model: Any, tokens: Tensor, sizes: Sequence[int], promise: bool) -> str:
    difference = _difference(model, tokens, sizes, promise)
    _, token = where(difference, CLOSE)
    beyond = f" (the context is {HOST['context_length']})" if sum(sizes) > HOST["context_length"] else ""
    unpromised = "" if promise else ", without the promise that nothing is cached yet,"
    return (
        f"{sum(sizes)} tokens{beyond} fed as {list(sizes)}{unpromised} give other logits than in one forward, "
        f"off by {difference.max():.2g}, first at token {token}"
    )

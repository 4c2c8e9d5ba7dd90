"""Which points of the grid an ablation has: indices of choices, one for each axis."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence

from gptzoo.spec.ablation import Mode

Point = tuple[int, ...]

_DRAWS = 64  # Latin designs of which the one with the fewest repeated pairs is taken


def points(mode: Mode, sizes: Sequence[int], baseline: Point, *, n: int | None, seed: int) -> Iterator[Point]:
    """The points in order, each once, the baseline among them but for `random` and `latin`.

    `random` yields all points in a random order: who wants n valid ones stops then. Raises ValueError.
    """
    if mode == "grid":
        yield from itertools.product(*map(range, sizes))
    elif mode == "one_at_a_time":
        yield baseline
        for axis, size in enumerate(sizes):
            for choice in range(size):
                if choice != baseline[axis]:
                    yield (*baseline[:axis], choice, *baseline[axis + 1 :])
    elif mode == "paired":
        if len(set(sizes)) > 1:
            raise ValueError(f"paired axes have equally many choices; these have {', '.join(map(str, sizes))}")
        yield from ((index,) * len(sizes) for index in range(sizes[0]))
    elif mode == "random":
        yield from _shuffled(sizes, random.Random(seed))
    else:
        yield from _latin(sizes, n or max(sizes), random.Random(seed))


def _shuffled(sizes: Sequence[int], generator: random.Random) -> Iterator[Point]:
    """All points in a random order, however many they are, without keeping those to come."""
    total = math.prod(sizes)
    drawn: set[int] = set()
    while len(drawn) < total:
        if 2 * len(drawn) > total:  # few are left: draws would mostly hit what has been
            rest = [number for number in range(total) if number not in drawn]
            generator.shuffle(rest)
            yield from (_point(number, sizes) for number in rest)
            return
        number = generator.randrange(total)
        if number not in drawn:
            drawn.add(number)
            yield _point(number, sizes)


def _point(number: int, sizes: Sequence[int]) -> Point:
    """The point at a place in the grid's own order."""
    indices = []
    for size in reversed(sizes):
        number, index = divmod(number, size)
        indices.append(index)
    return tuple(reversed(indices))


def _latin(sizes: Sequence[int], n: int, generator: random.Random) -> list[Point]:
    """n points with each choice of an axis as often as any other, up to one; of some draws, that with most pairs."""

    def draw() -> list[Point]:
        columns = []
        for size in sizes:
            column = [index % size for index in range(n)]
            generator.shuffle(column)
            columns.append(column)
        return list(zip(*columns, strict=True))

    def repetition(design: list[Point]) -> int:
        pairs = itertools.combinations(range(len(sizes)), 2)
        counts = (Counter((point[a], point[b]) for point in design) for a, b in pairs)
        return sum(count * count for counter in counts for count in counter.values())

    best = min((draw() for _ in range(_DRAWS)), key=repetition)
    return list(dict.fromkeys(best))

"""The points of the grid that an ablation consists of. A point is a tuple of choice indices, one for each axis."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence

from gptzoo.spec.ablation import Mode

Point = tuple[int, ...]

_N_LATIN_DRAWS = 64


def points(mode: Mode, sizes: Sequence[int], baseline: Point, *, n: int | None, seed: int) -> Iterator[Point]:
    """Yield the points of a mode in order, each once. `random` and `latin` may leave out the baseline.

    `random` yields all points in a random order; the caller stops when it has `n` valid ones. Raises ValueError if the
    mode does not fit the sizes.
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
            listed = ", ".join(map(str, sizes))
            raise ValueError(f"the axes of mode 'paired' must have equal numbers of choices; these have {listed}")
        yield from ((index,) * len(sizes) for index in range(sizes[0]))
    elif mode == "random":
        yield from _shuffled(sizes, random.Random(seed))
    else:
        yield from _latin(sizes, n or max(sizes), random.Random(seed))


def _shuffled(sizes: Sequence[int], generator: random.Random) -> Iterator[Point]:
    """Yield all points of a grid of any size in a random order. Memory grows only with the points already drawn."""
    total = math.prod(sizes)
    drawn: set[int] = set()
    while len(drawn) < total:
        if 2 * len(drawn) > total:  # most draws would repeat an earlier point, so enumerate the rest
            rest = [number for number in range(total) if number not in drawn]
            generator.shuffle(rest)
            yield from (_point(number, sizes) for number in rest)
            return
        number = generator.randrange(total)
        if number not in drawn:
            drawn.add(number)
            yield _point(number, sizes)


def _point(number: int, sizes: Sequence[int]) -> Point:
    """Return the point with this number in the order of the grid."""
    indices = []
    for size in reversed(sizes):
        number, index = divmod(number, size)
        indices.append(index)
    return tuple(reversed(indices))


def _latin(sizes: Sequence[int], n: int, generator: random.Random) -> list[Point]:
    """Draw n points in which the choices of each axis occur equally often, up to one.

    This is the best of several draws: the one in which pairs of choices repeat the least.
    """

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

    best = min((draw() for _ in range(_N_LATIN_DRAWS)), key=repetition)
    return list(dict.fromkeys(best))

"""The plan: a fixed list of cases that deals edge values of every size and of every option.

A case has many values away from the default at once, so that few cases meet all of them. The smallest case that fails
is found afterwards.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from gptzoo.errors import InputError
from gptzoo.testing.at_size.case import MODEL_SHAPES, Case
from gptzoo.testing.at_size.cost import is_affordable
from gptzoo.testing.at_size.effort import Effort
from gptzoo.testing.at_size.option_values import edge_values, options_strategy
from gptzoo.testing.at_size.trial import Trial, partners_of
from gptzoo.testing.component_under_test import ComponentUnderTest, ModelPartUnderTest

EDGE_LENGTHS = (129, 65, 150, 33, 127, 64, 128, 17, 257, 66, 63, 16, 31, 32, 9, 8, 7, 1, 131, 260, 255, 256)
BATCH_SIZES = (2, 9, 17, 3, 1, 8, 2, 16, 5, 2)
_MAX_EDGE = 129


@dataclass(frozen=True)
class Sizes:
    """The sizes that a property tries."""

    parts: Sequence[tuple[int, ...]] = tuple((length,) for length in EDGE_LENGTHS)  # of the plan, in order
    min_parts: int = 1  # of random cases
    max_parts: int = 1
    min_batch_size: int = 1
    n_variants: int = 1
    gains: Sequence[int] = (1,)
    least: int = 1  # tokens in a part, at least
    share: float = 1.0  # of the usual number of cases, for properties that take long or depend little on sizes
    may_exceed_context: bool = False  # the property also holds beyond context_length, if positions have no limit


def planned_cases(subject: ModelPartUnderTest, name: str, sizes: Sizes, effort: Effort) -> Iterator[Case]:
    """Yield the valid cases of the plan for the property `name`."""
    if not effort.n_planned:
        return
    rng = random.Random(f"{name} {subject.label}")
    parts = [split for split in sizes.parts if sum(split) <= effort.max_length]
    values = {option: itertools.cycle(dealt) for option, dealt in _values_of_options(subject, rng).items()}
    partners = partners_of(subject)
    shapes = [*range(1, len(MODEL_SHAPES))]
    for row in range(math.ceil(sizes.share * effort.n_planned)):
        # Half of the options differ from their default in a row, and any two of them in a quarter of the rows.
        chosen = [option for option in values if row and rng.random() < 0.5]
        options = {option: next(values[option]) for option in chosen}
        split = parts[row % len(parts)]
        case = Case(
            parts=split,
            batch_size=max(sizes.min_batch_size, BATCH_SIZES[row % len(BATCH_SIZES)]),
            context_length=(0, 300, 0, 131 if row % 8 < 4 else 16)[row % 4],
            options=options,
            partner=partners[row // 3 % len(partners)] if partners and row % 3 == 2 else "",
            shape=shapes[row // 2 % len(shapes)] if row % 2 == 0 and row else 0,
            gain=sizes.gains[row // 3 % len(sizes.gains)],
            variant=row % sizes.n_variants,
        )
        if (valid := repair(subject, case, sizes, effort)) is not None:
            yield valid


def random_cases(subject: ModelPartUnderTest, sizes: Sizes, effort: Effort) -> st.SearchStrategy[Case]:
    """Return a strategy for cases, which may be invalid."""
    token_count = st.integers(sizes.least, _MAX_EDGE) | st.sampled_from([n for n in EDGE_LENGTHS if n >= sizes.least])
    partners = ["", *partners_of(subject)]
    free = set(type(subject.config).model_fields) - set(subject.options)
    return st.builds(
        Case,
        parts=st.lists(token_count, min_size=sizes.min_parts, max_size=sizes.max_parts).map(tuple),
        batch_size=st.integers(sizes.min_batch_size, 17),
        context_length=st.sampled_from([0, 16, 131, 300]),
        options=options_strategy(type(subject.config)).map(
            lambda options: {name: value for name, value in options.items() if name in free}
        ),
        partner=st.sampled_from(partners),
        shape=st.integers(0, len(MODEL_SHAPES) - 1),
        gain=st.sampled_from(list(sizes.gains)),
        variant=st.integers(0, sizes.n_variants - 1),
    )


def repair(subject: ModelPartUnderTest, case: Case, sizes: Sizes, effort: Effort) -> Case | None:
    """Return the case with fewer changes if it is too large or refused, or None if nothing is left of it."""
    parts = case.parts
    while sum(parts) > effort.max_length and len(parts) > sizes.min_parts:
        parts = parts[:-1]
    if (excess := sum(parts) - effort.max_length) > 0:
        largest = max(range(len(parts)), key=lambda index: parts[index])
        parts = tuple(max(sizes.least, n - excess) if index == largest else n for index, n in enumerate(parts))
    most_rows = max(
        sizes.min_batch_size, effort.max_tokens // sum(parts) // (1 + (MODEL_SHAPES[case.shape].d_model > 100))
    )
    case = replace(case, parts=parts, batch_size=min(case.batch_size, most_rows))
    if case.context_length and case.context_length < case.length and not _is_unlimited(subject, case, sizes):
        case = replace(case, context_length=0)
    options = dict(case.options)
    if _is_valid(subject, case):
        return _affordable(subject, case, sizes)
    for name in list(options):  # an option that is refused on its own; then any that are refused together
        if not _is_valid(subject, replace(case, options={name: options[name]})):
            del options[name]
    while options and not _is_valid(subject, replace(case, options=options)):
        options.popitem()
    for simpler in (
        replace(case, options=options),
        replace(case, options=options, partner=""),
        replace(case, options=options, partner="", shape=0),
        replace(case, options={}, partner="", shape=0),
    ):
        if _is_valid(subject, simpler):
            return _affordable(subject, simpler, sizes)
    return None


def _affordable(subject: ModelPartUnderTest, case: Case, sizes: Sizes) -> Case | None:
    """Return the case, or one with a smaller model, fewer rows or fewer options if it would take too long."""
    if not case.options:
        return case
    few_rows = replace(case, batch_size=max(2, sizes.min_batch_size) if case.batch_size > 1 else 1)
    options = list(case.options.items())
    fewer = (replace(few_rows, shape=0, options=dict(options[:end])) for end in reversed(range(len(options))))
    return next((c for c in (case, few_rows, replace(few_rows, shape=0), *fewer) if _is_small(subject, c)), None)


def _is_valid(subject: ModelPartUnderTest, case: Case) -> bool:
    try:
        Trial(subject, case).validate()
    except InputError:
        return False
    return True


def _is_unlimited(subject: ModelPartUnderTest, case: Case, sizes: Sizes) -> bool:
    """Return True if rows of the model may be longer than its context."""
    if not sizes.may_exceed_context:
        return False
    try:
        return not Trial(subject, case).exceeds_max_length()
    except InputError:
        return True  # repaired by its options


def untried_options(subject: ComponentUnderTest) -> list[str]:
    """Return the options with a single tried value: the user has set them, or no other value is accepted."""
    if not isinstance(subject, ModelPartUnderTest):
        return []
    return [name for name in type(subject.config).model_fields if name not in ("type", *_accepted_values(subject))]


def _values_of_options(subject: ModelPartUnderTest, rng: random.Random) -> dict[str, list[Any]]:
    """Return the edge values of each option, shuffled."""
    return {name: _large_first(list(values), rng) for name, values in _accepted_values(subject).items()}


@functools.lru_cache(maxsize=64)
def _accepted_values(subject: ModelPartUnderTest) -> dict[str, list[Any]]:
    """Return the edge values of each option that the user has not set, without values that are refused."""
    values = {}
    for name, field in type(subject.config).model_fields.items():
        if name != "type" and name not in subject.options:
            values[name] = [value for value in edge_values(field) if _is_accepted(subject, name, value)]
    for name in [name for name, accepted in values.items() if not accepted]:  # it may need another option
        others = [{other: value} for other, accepted in values.items() for value in accepted[:2] if other != name]
        for value in edge_values(type(subject.config).model_fields[name]):
            if any(_is_small(subject, Case((_MAX_EDGE,), options={**other, name: value})) for other in others):
                values[name] = [*values[name], value]
    return {name: accepted for name, accepted in values.items() if accepted}


def _is_small(subject: ModelPartUnderTest, case: Case) -> bool:
    return _is_valid(subject, case) and is_affordable(subject, case)


def _is_accepted(subject: ModelPartUnderTest, name: str, value: object) -> bool:
    return _is_small(subject, Case(parts=(_MAX_EDGE,), options={name: value}))


def _large_first(values: list[Any], rng: random.Random) -> list[Any]:
    """Shuffle values so that integers above 8 and other values take turns with small integers."""
    rng.shuffle(values)
    small = [v for v in values if isinstance(v, int) and not isinstance(v, bool) and v <= 8]
    large = [v for v in values if v not in small or isinstance(v, bool | float)]
    mixed = []
    while large or small:
        mixed += [group.pop() for group in (large, large, small) if group]
    return mixed

"""Configs with other values of one option, and of pairs of options."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from gptzoo.component import Config
from gptzoo.errors import SpecError
from gptzoo.testing.at_size.option_values import edge_values
from gptzoo.testing.component_under_test import ComponentUnderTest

_VALUES_PER_OPTION = 4


def other_configs(subject: ComponentUnderTest) -> Iterator[Config]:
    """Yield the config under test, then configs with another value of one option, then of pairs of options."""
    yield subject.config
    values = {name: list(_valid_values(subject, name)) for name in type(subject.config).model_fields}
    for name, valid in values.items():
        yield from (subject.configure(**{name: value}) for value in valid)
    for first, second in itertools.combinations(values, 2):
        for value, other in zip(values[first], reversed(values[second]), strict=False):
            try:
                yield subject.configure(**{first: value, second: other})
            except SpecError:
                continue  # the two exclude each other


def describe_options(config: Config) -> str:
    """Return the options that a config sets, as a part of an error message."""
    given = {name: getattr(config, name) for name in sorted(config.model_fields_set) if name != "type"}
    return f", with {', '.join(f'{name} {value!r}' for name, value in given.items())}" if given else ""


def _valid_values(subject: ComponentUnderTest, name: str) -> Iterator[Any]:
    """Yield values of an option that the user has not set, spread over those that the kit knows."""
    if name == "type" or name in subject.options:
        return
    values = edge_values(type(subject.config).model_fields[name])
    n_valid = 0
    for value in [*values[:: 1 + len(values) // _VALUES_PER_OPTION], *values]:
        try:
            subject.configure(**{name: value})
        except SpecError:
            continue
        yield value
        n_valid += 1
        if n_valid == _VALUES_PER_OPTION:
            return

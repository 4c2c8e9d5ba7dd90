"""Configs with other values of one option, and of pairs of options."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from gptzoo.component import Config
from gptzoo.errors import SpecError
from gptzoo.testing.component_under_test import ComponentUnderTest

_VALUES_PER_OPTION = 4


def other_configs(subject: ComponentUnderTest) -> Iterator[Config]:
    """Yield the config under test, then configs with another value of one option, then of pairs of options."""
    from gptzoo.testing.properties.assembly.options import other_values

    yield subject.config
    names = [name for name in type(subject.config).model_fields if name != "type"]
    values = {name: [v for v, _ in itertools.islice(other_values(subject, name), _VALUES_PER_OPTION)] for name in names}
    for name in names:
        yield from (subject.configure(**{name: value}) for value in values[name])
    for first, second in itertools.combinations(names, 2):
        for value, other in zip(values[first], reversed(values[second]), strict=False):
            try:
                yield subject.configure(**{first: value, second: other})
            except SpecError:
                continue  # the two exclude each other


def describe_options(config: Config) -> str:
    """Return the options that a config sets, as a part of an error message."""
    given = {name: getattr(config, name) for name in sorted(config.model_fields_set) if name != "type"}
    return f", with {', '.join(f'{name} {value!r}' for name, value in given.items())}" if given else ""

"""Serialization: a run records the options of its components as JSON, and reads them back."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any, cast, get_args

from pydantic import ValidationError

from gptzoo.component import Config
from gptzoo.errors import SpecError
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.properties.assembly.options import other_values
from gptzoo.testing.verdict import Failed, Skipped

_VALUES_PER_OPTION = 12


def check_serialization(subject: ComponentUnderTest) -> None:
    """Check that options are equal after they were written as JSON and read back."""
    names = [name for name in type(subject.config).model_fields if name != "type"]
    if not names:
        raise Skipped("it has no options")
    _check_reading_back(subject, subject.config, names)
    for name in names:
        for config in _configs(subject, name):
            _check_reading_back(subject, config, [name])


def _configs(subject: ComponentUnderTest, name: str) -> Iterator[Config]:
    """Yield valid configs with other values of one option: near the current one, then drawn from its type."""
    for _, config in other_values(subject, name):
        yield config
    for value in _drawn_values(type(subject.config).model_fields[name].annotation):
        try:
            yield subject.configure(**{name: value})
        except SpecError:  # the option has narrower bounds than its type
            continue


def _drawn_values(annotation: object) -> list[object]:
    """Return values of a type, the same ones in each call; none for a type that hypothesis cannot draw from."""
    if _refers_to_components(annotation):  # `other_values` has the registered ones
        return []
    try:
        from hypothesis import HealthCheck, Phase, given, settings, strategies
    except ImportError:
        return []
    values: list[object] = []

    @settings(
        max_examples=_VALUES_PER_OPTION,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategies.from_type(cast(Any, annotation)))
    def draw(value: object) -> None:
        values.append(value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            draw()
        except Exception:
            return values
    return values


def _refers_to_components(annotation: object) -> bool:
    is_config = isinstance(annotation, type) and issubclass(annotation, Config)
    return is_config or annotation is Any or any(map(_refers_to_components, get_args(annotation)))


def _check_reading_back(subject: ComponentUnderTest, config: Config, names: list[str]) -> None:
    before = {name: getattr(config, name) for name in names}
    shown = ", ".join(f"{name} = {value!r}" for name, value in before.items())
    try:
        text = json.dumps(config.model_dump(mode="json"), allow_nan=False)
    except Exception as error:
        raise Failed(f"with {shown}, the options cannot be written as JSON: {error}") from None
    try:
        read = subject.component.Config.model_validate(json.loads(text))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise Failed(f"with {shown}, {text} cannot be read back: {problem['loc']}: {problem['msg']}") from None
    for name, value in before.items():
        now = getattr(read, name)
        if type(now) is not type(value) or now != value:
            raise Failed(f"option {name!r} was {value!r} and is {now!r} after it was written as JSON and read back")

"""The conformance kit as pytest tests: derive a class from `Conformance` and name the component."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import pytest

from gptzoo.errors import InputError
from gptzoo.testing.at_size.effort import QUICK, SAMPLE, Effort
from gptzoo.testing.properties.catalog import Property, properties_of
from gptzoo.testing.runner import AnyUnderTest, Checkable, check_property, find_component, put_under_test


class Conformance:
    """A base class with one test for each property and set of options: `TestAlibi::test_property[causality]`.

    The tests try few cases beyond toy sizes. Tests of slow properties are marked `slow`. So is a second test of each
    property that is checked beyond toy sizes, `TestAlibi::test_property[causality-at-size]`, with the cases of
    `gptzoo check`.
    """

    component: ClassVar[Checkable | str]
    """The class of the component, or "kind:type" of a registered component."""
    options: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    """Sets of options, as JSON. The component is checked with each."""
    skip: ClassVar[Mapping[str, str]] = {}
    """Names of properties to skip, each with the reason."""

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        if "gptzoo_property" not in metafunc.fixturenames:
            return
        test_class: Any = metafunc.cls
        component = test_class.component
        kind = component.partition(":")[0] if isinstance(component, str) else component.kind
        cases = [
            pytest.param(prop, dict(options), effort, id=_test_id(prop, options) + suffix, marks=marks)
            for options in test_class.options
            for prop in properties_of(kind)
            for effort, suffix, marks in _efforts(prop)
        ]
        metafunc.parametrize(("gptzoo_property", "gptzoo_options", "gptzoo_effort"), cases)

    def test_property(self, gptzoo_property: Property, gptzoo_options: dict[str, Any], gptzoo_effort: Effort) -> None:
        """Check that the component has the property."""
        if reason := self.skip.get(gptzoo_property.name):
            pytest.skip(reason)
        try:
            subject = _subject(self.component, json.dumps(gptzoo_options))  # type: ignore[arg-type]  # it is hashable
            verdict = check_property(gptzoo_property, subject, gptzoo_effort)
        except InputError as error:
            pytest.fail(str(error), pytrace=False)
        if verdict.outcome == "failed":
            pytest.fail(str(verdict), pytrace=False)
        if verdict.outcome == "skipped":
            pytest.skip(verdict.text)


@lru_cache(maxsize=8)
def _subject(component: Checkable | str, options: str) -> AnyUnderTest:
    return put_under_test(find_component(component), json.loads(options))


def _efforts(prop: Property) -> Iterator[tuple[Effort, str, list[pytest.MarkDecorator]]]:
    """Yield the effort of each test of a property, with a suffix of its name and its marks."""
    yield SAMPLE, "", [pytest.mark.slow] if prop.slow else []
    if prop.is_sampled:
        yield QUICK, "-at-size", [pytest.mark.slow]


def _test_id(prop: Property, options: Mapping[str, Any]) -> str:
    if not options:
        return prop.name
    assignments = ",".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in options.items())
    return f"{assignments}-{prop.name}"

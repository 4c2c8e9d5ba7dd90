"""The conformance kit as pytest tests: derive a class from `Conformance` and name the component."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import pytest

from gptzoo.component import Component
from gptzoo.errors import InputError
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.properties.catalog import Property, properties_of
from gptzoo.testing.runner import check_property, find_component, put_under_test


class Conformance:
    """A base class with one test for each property and set of options: `TestAlibi::test_property[causality]`.

    Tests of slow properties are marked `slow`.
    """

    component: ClassVar[type[Component] | str]
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
            pytest.param(prop, dict(options), id=_test_id(prop, options), marks=[pytest.mark.slow] if prop.slow else [])
            for options in test_class.options
            for prop in properties_of(kind)
        ]
        metafunc.parametrize(("gptzoo_property", "gptzoo_options"), cases)

    def test_property(self, gptzoo_property: Property, gptzoo_options: dict[str, Any]) -> None:
        """Check that the component has the property."""
        if reason := self.skip.get(gptzoo_property.name):
            pytest.skip(reason)
        try:
            subject = _subject(self.component, json.dumps(gptzoo_options))  # type: ignore[arg-type]  # it is hashable
            verdict = check_property(gptzoo_property, subject)
        except InputError as error:
            pytest.fail(str(error), pytrace=False)
        if verdict.outcome == "failed":
            pytest.fail(str(verdict), pytrace=False)
        if verdict.outcome == "skipped":
            pytest.skip(verdict.text)


@lru_cache(maxsize=8)
def _subject(component: type[Component] | str, options: str) -> ComponentUnderTest:
    return put_under_test(find_component(component), json.loads(options))


def _test_id(prop: Property, options: Mapping[str, Any]) -> str:
    if not options:
        return prop.name
    assignments = ",".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in options.items())
    return f"{assignments}-{prop.name}"

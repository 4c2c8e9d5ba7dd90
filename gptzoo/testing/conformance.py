"""The kit as tests of a package: derive a class, name the component."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import pytest

from gptzoo.errors import InputError
from gptzoo.testing.properties.catalog import Property, properties_of
from gptzoo.testing.runner import find, subject_of, verdict


class Conformance:
    """One test for each property and each set of options: `TestAlibi::test_property[causality]`.

    Properties that take long are marked `slow`.
    """

    component: ClassVar[Any]
    """The class of the component, or "kind:type" of what is registered."""
    options: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    """The sets of options to check it with, as JSON."""
    skip: ClassVar[Mapping[str, str]] = {}
    """Properties that are not checked, each with the reason."""

    @classmethod
    def pytest_generate_tests(cls, metafunc: Any) -> None:
        if "gptzoo_property" not in metafunc.fixturenames:
            return
        component = metafunc.cls.component
        kind = component.partition(":")[0] if isinstance(component, str) else component.kind
        cases = [
            pytest.param(one, dict(options), id=_id(one, options), marks=[pytest.mark.slow] if one.slow else [])
            for options in metafunc.cls.options
            for one in properties_of(kind)
        ]
        metafunc.parametrize(("gptzoo_property", "gptzoo_options"), cases)

    def test_property(self, gptzoo_property: Property, gptzoo_options: dict[str, Any]) -> None:
        """The component has the property."""
        if reason := self.skip.get(gptzoo_property.name):
            pytest.skip(reason)
        try:
            found = verdict(gptzoo_property, _subject(type(self).component, json.dumps(gptzoo_options)))
        except InputError as error:
            pytest.fail(str(error), pytrace=False)
        if found.outcome == "failed":
            pytest.fail(str(found), pytrace=False)
        if found.outcome == "skipped":
            pytest.skip(found.text)


@lru_cache(maxsize=8)
def _subject(component: Any, options: str) -> Any:
    return subject_of(find(component), json.loads(options))


def _id(one: Property, options: Mapping[str, Any]) -> str:
    if not options:
        return one.name
    words = ",".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in options.items())
    return f"{words}-{one.name}"

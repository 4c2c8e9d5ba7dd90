"""The conformance kit: tests of a component against the contract of its kind, with a counterexample for each failure.

    class TestAlibi(gptzoo.testing.Conformance):         # in the tests of a package, with pytest
        component = "positional:alibi"

    gptzoo.testing.check("positional:alibi")             # anywhere: a list of verdicts

The names are imported on first use, because pytest loads the plugin of this package in every environment.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptzoo.testing.conformance import Conformance as Conformance
    from gptzoo.testing.properties.catalog import properties_of as properties_of
    from gptzoo.testing.runner import check as check
    from gptzoo.testing.verdict import Verdict as Verdict

_HOME = {
    "Conformance": "gptzoo.testing.conformance",
    "Verdict": "gptzoo.testing.verdict",
    "check": "gptzoo.testing.runner",
    "properties_of": "gptzoo.testing.properties.catalog",
}

__all__ = ["Conformance", "Verdict", "check", "properties_of"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value

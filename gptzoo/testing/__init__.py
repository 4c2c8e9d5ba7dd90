"""The conformance kit: is this component what gptzoo promises of its kind, and if not, why not?

    class TestAlibi(gptzoo.testing.Conformance):         # in a package's tests, with pytest
        component = "positional:alibi"

    gptzoo.testing.check("positional:alibi")             # anywhere: a list of verdicts

Like `gptzoo` itself it imports nothing until it is used, because pytest loads its plugin everywhere.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value

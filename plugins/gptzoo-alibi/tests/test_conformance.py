"""gptzoo\'s conformance tests for every positional of this package."""

from __future__ import annotations

import gptzoo.testing


class TestAlibi(gptzoo.testing.Conformance):
    component = "positional:alibi"

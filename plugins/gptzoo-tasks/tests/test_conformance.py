"""gptzoo's conformance tests for every task of this package."""

from __future__ import annotations

import gptzoo.testing


class TestMqar(gptzoo.testing.Conformance):
    component = "corpus:mqar"

"""gptzoo\'s conformance tests for every attention of this package."""

from __future__ import annotations

import gptzoo.testing


class TestLinear(gptzoo.testing.Conformance):
    component = "attention:linear"


class TestRetention(gptzoo.testing.Conformance):
    component = "attention:retention"


class TestGatedDelta(gptzoo.testing.Conformance):
    component = "attention:gated_delta"
    options = ({"conv_size": 3},)

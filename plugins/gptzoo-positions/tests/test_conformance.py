"""gptzoo\'s conformance tests for every positional of this package."""

from __future__ import annotations

import gptzoo.testing


class TestT5(gptzoo.testing.Conformance):
    component = "positional:t5"
    options = ({"n_buckets": 4, "max_distance": 6},)


class TestKerple(gptzoo.testing.Conformance):
    component = "positional:kerple"


class TestFire(gptzoo.testing.Conformance):
    component = "positional:fire"


class TestScaledRope(gptzoo.testing.Conformance):
    component = "positional:scaled_rope"
    options = ({"fraction": 0.5, "scaling": {"type": "yarn", "factor": 4.0}},)


class TestXPos(gptzoo.testing.Conformance):
    component = "positional:xpos"
    options = ({"scale_base": 8.0},)

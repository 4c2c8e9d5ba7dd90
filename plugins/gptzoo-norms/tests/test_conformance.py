"""gptzoo\'s conformance tests for every norm and norm layer of this package."""

from __future__ import annotations

import gptzoo.testing


class TestReordered(gptzoo.testing.Conformance):
    component = "norm:reordered"


class TestSandwich(gptzoo.testing.Conformance):
    component = "norm:sandwich"


class TestPeri(gptzoo.testing.Conformance):
    component = "norm:peri"


class TestParallel(gptzoo.testing.Conformance):
    component = "norm:parallel"
    options = ({}, {"shared": False})


class TestDeepNorm(gptzoo.testing.Conformance):
    component = "norm:deepnorm"


class TestDynamicTanh(gptzoo.testing.Conformance):
    component = "norm_layer:dyt"

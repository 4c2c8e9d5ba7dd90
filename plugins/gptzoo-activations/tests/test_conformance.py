"""gptzoo\'s conformance tests for every activation of this package."""

from __future__ import annotations

import gptzoo.testing


class TestSquaredReLU(gptzoo.testing.Conformance):
    component = "activation:squared_relu"


class TestQuickGELU(gptzoo.testing.Conformance):
    component = "activation:quick_gelu"

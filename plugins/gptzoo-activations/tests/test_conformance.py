"""What gptzoo promises of every activation, checked by its own kit."""

from __future__ import annotations

import gptzoo.testing


class TestSquaredReLU(gptzoo.testing.Conformance):
    component = "activation:squared_relu"


class TestQuickGELU(gptzoo.testing.Conformance):
    component = "activation:quick_gelu"

"""gptzoo\'s conformance tests for every attention of this package."""

from __future__ import annotations

import gptzoo.testing


class TestFlex(gptzoo.testing.Conformance):
    component = "attention:flex"
    options = ({"softcap": 2.0},)


class TestBlockSparse(gptzoo.testing.Conformance):
    component = "attention:block_sparse"
    options = ({"block_size": 3, "n_local": 1, "stride": 2},)


class TestDifferential(gptzoo.testing.Conformance):
    component = "attention:differential"

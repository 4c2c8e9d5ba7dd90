"""gptzoo\'s conformance tests for every attention of this package."""

from __future__ import annotations

import gptzoo.testing


class TestLatentAttention(gptzoo.testing.Conformance):
    component = "attention:mla"
    options = ({"q_rank": 6, "v_dim": 5},)


class TestInfiniAttention(gptzoo.testing.Conformance):
    component = "attention:infini"
    options = ({"segment_length": 3, "update": "delta"},)

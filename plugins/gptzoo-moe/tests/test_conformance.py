"""gptzoo\'s conformance tests for every ffn of this package."""

from __future__ import annotations

import gptzoo.testing


class TestMixtureOfExperts(gptzoo.testing.Conformance):
    component = "ffn:moe"
    options = (  # few experts, so that the few tokens of the conformance tests reach all of them
        {"n_experts": 4, "expert": {"type": "mlp", "d_ff": 16}},
        {"n_experts": 4, "expert": {"type": "glu", "d_ff": 8}, "n_shared": 1, "scores": "sigmoid", "balance": "bias"},
    )
    skip = {
        "compiling": "a block breaks around the experts, whose sizes depend on values; test_mixture.py compiles it",
        "exporting": "what is not compiled cannot be exported, so steps of decoding stay as they are",
    }

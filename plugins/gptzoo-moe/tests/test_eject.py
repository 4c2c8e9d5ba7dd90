"""A model with `moe` ejects to a file with the initial values of its experts."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

import gptzoo
from gptzoo.eject.eject import eject_source

SPEC: dict[str, Any] = {
    "vocab_size": 31,
    "context_length": 32,
    "d_model": 64,
    "n_layers": 8,
    "n_heads": 4,
    "ffn": {"type": "moe", "n_experts": 4, "n_shared": 1, "expert": {"type": "mlp", "d_ff": 64}},
}


def test_what_experts_write_to_the_residual_stream_starts_small() -> None:
    text = eject_source(gptzoo.load_model_spec(SPEC))
    module = sys.modules["ejected_moe"] = types.ModuleType("ejected_moe")  # dataclasses look there
    exec(text, vars(module))
    weights = {name: weight for name, weight in module.GPT().named_parameters() if name.endswith(".weight")}
    for name, weight in weights.items():
        if ".down." in name:
            assert float(weight.detach().std()) == pytest.approx(0.02 / (2 * 8) ** 0.5, rel=0.1), name
        elif ".up." in name:
            assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.1), name
    assert sum(".down." in name for name in weights) == 8 * 5

"""A model with `scaled_rope` exports as the family that computes the same function."""

from __future__ import annotations

import gptzoo
from gptzoo.interop.export import native_export

LLAMA = {
    "vocab_size": 96,
    "context_length": 32,
    "d_model": 32,
    "n_layers": 2,
    "n_heads": 4,
    "attention": "sdpa",
    "positional": "rope",
    "norm": {"type": "pre_ln", "layer": "rmsnorm"},
    "ffn": {"type": "glu", "d_ff": 64},
    "activation": "silu",
    "bias": False,
}


def test_it_exports_as_llama() -> None:
    spec = gptzoo.load_model_spec({**LLAMA, "positional": "scaled_rope"})
    export = native_export(spec)
    assert export.family == "llama"
    assert gptzoo.build(export.spec).state_dict().keys() == gptzoo.build(spec).state_dict().keys()

"""A model with `alibi` ejects to a file whose computed buffers can be filled after it was built on meta."""

from __future__ import annotations

import sys
import types
from typing import Any

import torch

import gptzoo
from gptzoo.eject.eject import eject_model
from gptzoo.eject.names import ejected_tensors

SPEC = {"vocab_size": 31, "context_length": 32, "d_model": 32, "n_layers": 3, "n_heads": 4, "positional": "alibi"}


def test_computed_buffers_are_filled_after_building_on_meta() -> None:
    model: Any = gptzoo.build(gptzoo.load_model_spec(SPEC), seed=4).eval()
    module = sys.modules["ejected_alibi"] = types.ModuleType("ejected_alibi")  # dataclasses look there
    exec(eject_model(model), vars(module))
    with torch.device("meta"):
        file = module.GPT()
    file.to_empty(device="cpu")
    filled = [part for part in file.modules() if hasattr(part, "reset_buffers")]
    for part in filled:
        part.reset_buffers()
    file.load_state_dict(ejected_tensors(model.state_dict(), model))
    assert len(filled) == 1
    tokens = torch.arange(30)[None]
    with torch.no_grad():
        assert torch.equal(file.eval()(tokens), model(tokens)[0])
